// SPDX-License-Identifier: Apache-2.0
import Units

/// `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, taken apart.
struct SignatureHeader: Equatable {
    static let algorithm = "AWS4-HMAC-SHA256"

    var keyID: String
    /// `20261124`.
    var day: String
    var region: String
    var service: String
    /// Lower-case, in the order in which they were signed.
    var signedHeaders: [String]
    var signature: [UInt8]

    var scope: String { "\(day)/\(region)/\(service)/aws4_request" }

    init(_ value: String) throws(AccessRefusal) {
        var fields: [Substring: Substring] = [:]
        for part in value.dropFirst(Self.algorithm.count).split(separator: ",") {
            let pair = part.drop { $0 == " " }.split(separator: "=", maxSplits: 1)
            if pair.count == 2 { fields[pair[0]] = pair[1].prefix { $0 != " " } }
        }
        let names = ["Credential", "Signature", "SignedHeaders"]
        let missing = names.filter { fields[Substring($0)] == nil }
        guard missing.isEmpty else {
            throw .incomplete(missing.map { "Authorization header requires '\($0)' parameter." }.joined(separator: " "))
        }
        let credential = fields["Credential", default: ""].split(separator: "/", omittingEmptySubsequences: false)
        guard credential.count == 5, credential[4] == "aws4_request" else {
            throw .incomplete("Credential must have exactly 5 slash-delimited elements, and end in 'aws4_request'.")
        }
        (keyID, day, region, service) = (
            String(credential[0]), String(credential[1]), String(credential[2]), String(credential[3])
        )
        signedHeaders = fields["SignedHeaders", default: ""].split(separator: ";").map { $0.lowercased() }
        guard let signature = Hex.decode(String(fields["Signature", default: ""])), signature.count == 32 else {
            throw .incomplete("Signature must be 64 hexadecimal digits.")
        }
        self.signature = signature
    }
}
