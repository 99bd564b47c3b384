// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOHTTP1

/// A request in the one spelling that both sides sign (AWS, "Create a signed AWS API request", step 1).
enum CanonicalRequest {
    /// - Parameters:
    ///   - payloadDigest: SHA-256 of the body, hexadecimal.
    ///   - isPresigned: whether the signature is in the query, which is signed without it.
    static func text(
        _ request: HTTPRequest,
        signedHeaders: [String],
        payloadDigest: String,
        isPresigned: Bool = false
    ) -> String {
        let headers = signedHeaders.map { "\($0):\(value($0, request.headers))\n" }.joined()
        let lines = [
            request.method.rawValue, path(request.path),
            query(request.query, without: isPresigned ? "X-Amz-Signature" : nil), headers,
            signedHeaders.joined(separator: ";"), payloadDigest,
        ]
        return lines.joined(separator: "\n")
    }

    /// Without `.`, `..` and double slashes, and encoded once more than it was sent: every service but S3 wants that.
    static func path(_ sent: String) -> String {
        var parts: [Substring] = []
        for part in sent.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        let isDirectory = sent.hasSuffix("/") && !parts.isEmpty
        return "/" + parts.map { encode($0.utf8) }.joined(separator: "/") + (isDirectory ? "/" : "")
    }

    /// Sorted by name, then by value, as bytes, after both were encoded in the strictest way.
    static func query(_ sent: String, without name: String? = nil) -> String {
        let pairs = sent.split(separator: "&")
            .map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return (recode(parts[0]), parts.count > 1 ? recode(parts[1]) : "")
            }
        // Encoded text is ASCII, so that comparing strings is comparing bytes.
        return pairs.filter { $0.0 != name }.sorted { $0 < $1 }.map { "\($0)=\($1)" }.joined(separator: "&")
    }

    /// All values of a header, each trimmed and with single spaces, in the order in which they were sent.
    static func value(_ name: String, _ headers: HTTPHeaders) -> String {
        headers[name].map { $0.split { $0 == " " || $0 == "\t" }.joined(separator: " ") }.joined(separator: ",")
    }

    private static func recode(_ text: Substring) -> String {
        PercentEncoding.decode(text).map { encode($0.utf8) } ?? String(text)
    }

    private static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return text
    }
}
