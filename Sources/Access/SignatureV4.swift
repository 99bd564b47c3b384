// SPDX-License-Identifier: Apache-2.0
import Crypto
import HTTP
import NIOCore
import NIOHTTP1
import Units

/// AWS Signature Version 4 in its header form, for the service `lambda`, from the side that verifies.
enum SignatureV4 {
    /// How far a client's clock may be from ours, in seconds.
    static let skew: Int64 = 300

    /// Everything that can be said before the body is there: scope, time, and which headers are signed.
    ///
    /// - Returns: when the request was signed, in seconds since 1970.
    static func checkHead(
        _ header: SignatureHeader,
        _ headers: HTTPHeaders,
        now: Int64
    ) throws(AccessRefusal) -> Int64 {
        guard let text = headers.first(name: "x-amz-date"), let signed = SignatureTime.parse(text) else {
            throw .incomplete(
                "Authorization header requires existence of an 'X-Amz-Date' header such as 20261124T093000Z."
            )
        }
        guard header.service == "lambda" else {
            throw .invalidSignature("Credential should be scoped to correct service: 'lambda'.")
        }
        guard text.hasPrefix(header.day), header.day.utf8.count == 8 else {
            throw .invalidSignature(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                    + "'\(header.day)' != '\(text.prefix(8))', from '\(text)'."
            )
        }
        try checkTime(signed, now)
        let needed = Set(["host"] + headers.map { $0.name.lowercased() }.filter { $0.hasPrefix("x-amz-") })
        let unsigned = needed.subtracting(header.signedHeaders).sorted()
        guard unsigned.isEmpty else {
            throw .invalidSignature("These headers must be signed: \(unsigned.joined(separator: ", ")).")
        }
        return signed
    }

    private static func checkTime(_ signed: Int64, _ now: Int64) throws(AccessRefusal) {
        let (then, today) = (SignatureTime.text(signed), SignatureTime.text(now))
        guard signed >= now - skew else {
            throw .invalidSignature(
                "Signature expired: \(then) is now earlier than \(SignatureTime.text(now - skew)) (\(today) - 5 min.)"
            )
        }
        guard signed <= now + skew else {
            throw .invalidSignature(
                "Signature not yet current: \(then) is still later than \(SignatureTime.text(now + skew)) (\(today) + 5 min.)"
            )
        }
    }

    /// Whether the signature is the one that the holder of the secret makes for this request. In constant time.
    static func isRight(_ header: SignatureHeader, _ request: HTTPRequest, secret: String) -> Bool {
        // The body's own digest, whatever `x-amz-content-sha256` claims: a claim that is not true then signs wrongly.
        let canonical = CanonicalRequest.text(
            request,
            signedHeaders: header.signedHeaders,
            payloadDigest: Hex.encode(digest(request.body))
        )
        let text = [
            SignatureHeader.algorithm, request.headers.first(name: "x-amz-date") ?? "", header.scope,
            Hex.encode(SHA256.hash(data: Array(canonical.utf8))),
        ]
        .joined(separator: "\n")
        var key = SymmetricKey(data: Array("AWS4\(secret)".utf8))
        for part in [header.day, header.region, header.service, "aws4_request"] {
            key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
        }
        return HMAC<SHA256>.isValidAuthenticationCode(header.signature, authenticating: Array(text.utf8), using: key)
    }

    private static func digest(_ body: ByteBuffer) -> SHA256.Digest {
        var hash = SHA256()
        unsafe body.withUnsafeReadableBytes { unsafe hash.update(bufferPointer: $0) }
        return hash.finalize()
    }
}
