// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOHTTP1
import Units

/// What a request says of its signature: in its `Authorization` header, or, presigned, in its query.
struct SignatureClaim: Equatable {
    static let algorithm = "AWS4-HMAC-SHA256"
    /// The longest life of a presigned request, in seconds: a week.
    static let longestLife: Int64 = 604_800

    var keyID: String
    /// `20261124`.
    var day: String
    var region: String
    var service: String
    /// Lower-case, in the order in which they were signed.
    var signedHeaders: [String]
    var signature: [UInt8]
    /// When it was signed: `20261124T093000Z`.
    var time: String
    /// For how many seconds from then on a presigned request is good; `nil` for a signature in the header.
    var life: Int64?

    var scope: String { "\(day)/\(region)/\(service)/aws4_request" }

    /// `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, with the time from a header of its own.
    init(authorization value: String, _ headers: HTTPHeaders) throws(AccessRefusal) {
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
        func field(_ name: Substring) -> String { String(fields[name] ?? "") }
        let time = headers.first(name: "x-amz-date") ?? ""
        try self.init(field("Credential"), field("SignedHeaders"), field("Signature"), time: time, life: nil)
        guard SignatureTime.parse(time) != nil else {
            throw .incomplete(
                "Authorization header requires existence of an 'X-Amz-Date' header such as 20261124T093000Z."
            )
        }
    }

    /// Whether a query says that its request is presigned.
    static func isIn(_ query: String) -> Bool { query.contains("X-Amz-Signature=") }

    /// The parameters `X-Amz-Algorithm`, `-Credential`, `-Date`, `-Expires`, `-SignedHeaders` and `-Signature`.
    init(presigned request: HTTPRequest) throws(AccessRefusal) {
        func value(_ name: String) throws(AccessRefusal) -> String {
            let values = request.queries("X-Amz-\(name)")
            guard values.count == 1, let value = values.first, !value.isEmpty else {
                throw .incomplete("The query of a presigned request requires 'X-Amz-\(name)' once.")
            }
            return value
        }
        guard try value("Algorithm") == Self.algorithm else {
            throw .incomplete("X-Amz-Algorithm must be '\(Self.algorithm)'.")
        }
        let time = try value("Date")
        guard SignatureTime.parse(time) != nil else {
            throw .incomplete("X-Amz-Date must be of the form 20261124T093000Z.")
        }
        guard let life = Int64(try value("Expires")), (1...Self.longestLife).contains(life) else {
            throw .incomplete("X-Amz-Expires must be a number of seconds from 1 to \(Self.longestLife), a week.")
        }
        let (credential, headers, signature) = (
            try value("Credential"), try value("SignedHeaders"), try value("Signature")
        )
        try self.init(credential, headers, signature, time: time, life: life)
    }

    private init(
        _ credential: String,
        _ headers: String,
        _ digits: String,
        time: String,
        life: Int64?
    ) throws(AccessRefusal) {
        let parts = credential.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 5, parts[4] == "aws4_request" else {
            throw .incomplete("Credential must have exactly 5 slash-delimited elements, and end in 'aws4_request'.")
        }
        (keyID, day, region, service) = (parts[0], parts[1], parts[2], parts[3])
        signedHeaders = headers.split(separator: ";").map { $0.lowercased() }
        guard let signature = Hex.decode(digits), signature.count == 32 else {
            throw .incomplete("Signature must be 64 hexadecimal digits.")
        }
        self.signature = signature
        self.time = time
        self.life = life
    }
}
