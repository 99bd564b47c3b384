// SPDX-License-Identifier: Apache-2.0
import Crypto
import HTTP
import NIOCore
import NIOHTTP1
import Units

/// AWS Signature Version 4, in the header or presigned, for the service `lambda`, from the side that verifies.
enum SignatureV4 {
    /// How far a client's clock may be from ours, in seconds.
    static let skew: Int64 = 300

    /// Everything that can be said before the body is there: scope, time, and which headers are signed.
    ///
    /// - Returns: when the request was signed, in seconds since 1970.
    static func checkHead(
        _ claim: SignatureClaim,
        _ headers: HTTPHeaders,
        now: Int64
    ) throws(AccessRefusal) -> Int64 {
        let (text, signed) = (claim.time, SignatureTime.parse(claim.time) ?? 0)
        guard claim.service == "lambda" else {
            throw .invalidSignature("Credential should be scoped to correct service: 'lambda'.")
        }
        guard text.hasPrefix(claim.day), claim.day.utf8.count == 8 else {
            throw .invalidSignature(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                    + "'\(claim.day)' != '\(text.prefix(8))', from '\(text)'."
            )
        }
        try checkTime(signed, now, life: claim.life)
        let needed = Set(["host"] + headers.map { $0.name.lowercased() }.filter { $0.hasPrefix("x-amz-") })
        let unsigned = needed.subtracting(claim.signedHeaders).sorted()
        guard unsigned.isEmpty else {
            throw .invalidSignature("These headers must be signed: \(unsigned.joined(separator: ", ")).")
        }
        return signed
    }

    /// A presigned request says itself how long it is good; a clock that is ahead gets the same allowance in both forms.
    private static func checkTime(_ signed: Int64, _ now: Int64, life: Int64?) throws(AccessRefusal) {
        let (then, today) = (SignatureTime.text(signed), SignatureTime.text(now))
        if let life, now > signed + life {
            throw .invalidSignature(
                "Signature expired: \(SignatureTime.text(signed + life)) is now earlier than \(today)"
            )
        }
        guard life != nil || signed >= now - skew else {
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
    static func isRight(_ claim: SignatureClaim, _ request: HTTPRequest, secret: String) -> Bool {
        // The body's own digest, whatever `x-amz-content-sha256` claims: a claim that is not true then signs wrongly.
        let canonical = CanonicalRequest.text(
            request,
            signedHeaders: claim.signedHeaders,
            payloadDigest: Hex.encode(digest(request.body)),
            isPresigned: claim.life != nil
        )
        let text = [
            SignatureClaim.algorithm, claim.time, claim.scope,
            Hex.encode(SHA256.hash(data: Array(canonical.utf8))),
        ]
        .joined(separator: "\n")
        var key = SymmetricKey(data: Array("AWS4\(secret)".utf8))
        for part in [claim.day, claim.region, claim.service, "aws4_request"] {
            key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
        }
        return HMAC<SHA256>.isValidAuthenticationCode(claim.signature, authenticating: Array(text.utf8), using: key)
    }

    private static func digest(_ body: ByteBuffer) -> SHA256.Digest {
        var hash = SHA256()
        unsafe body.withUnsafeReadableBytes { unsafe hash.update(bufferPointer: $0) }
        return hash.finalize()
    }
}
