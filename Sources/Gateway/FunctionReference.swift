// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux

/// Request ids are UUIDs, as runtimes check.
package enum RequestID {
    private static let random = RandomWords()
    private static let digits = Array("0123456789abcdef".utf8)

    package static func make() -> String {
        var (high, low) = random.pair()
        high = high & 0xFFFF_FFFF_FFFF_0FFF | 0x4000  // version 4
        low = low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000  // variant 1
        var text: [UInt8] = []
        text.reserveCapacity(36)
        for place in 0..<32 {
            if place == 8 || place == 12 || place == 16 || place == 20 { text.append(UInt8(ascii: "-")) }
            let word = place < 16 ? high : low
            text.append(digits[Int(word >> UInt64(60 - place % 16 * 4) & 0xF)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// A function as Lambda's clients name it: `name`, `name:qualifier`, `account:function:name`, or a whole ARN.
struct FunctionReference: Equatable {
    static let account = "000000000000"
    static let region = "us-east-1"

    var name: String
    var qualifier: String?

    static func arn(_ name: String, qualifier: String? = nil) -> String {
        "arn:aws:lambda:\(region):\(account):function:\(name)" + (qualifier.map { ":\($0)" } ?? "")
    }

    init(_ text: String) throws(LambdaError) {
        // A name alone, as most are, is not taken apart.
        let isPlain = !text.utf8.contains(UInt8(ascii: ":"))
        let parts = isPlain ? [text] : text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let tail: ArraySlice<String>
        if parts.count >= 7, parts[0] == "arn", parts[2] == "lambda", parts[5] == "function" {
            tail = parts[6...]
        } else if parts.count >= 3, parts[1] == "function" {
            tail = parts[2...]
        } else {
            tail = parts[...]
        }
        name = tail.first ?? ""
        qualifier = tail.count > 1 ? tail.dropFirst().first : nil
        guard tail.count <= 2, (try? FunctionSpec.checkName(name)) != nil else {
            let pattern =
                "(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"
            throw LambdaError(
                .badRequest,
                "ValidationException",
                "1 validation error detected: Value '\(text)' at 'functionName' failed to satisfy constraint: "
                    + "Member must satisfy regular expression pattern: \(pattern)"
            )
        }
    }

    /// With the qualifier that the query adds; in both places it must be the same one.
    func checked(_ query: String?) throws(LambdaError) -> FunctionReference {
        if let query, let qualifier, query != qualifier {
            throw LambdaError(
                .badRequest,
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier."
            )
        }
        var reference = self
        reference.qualifier = qualifier ?? query
        if let qualifier = reference.qualifier, !Self.isQualifier(qualifier) {
            throw .validation(qualifier, "qualifier", "satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)")
        }
        return reference
    }

    /// For what is said of a function as a whole.
    func unqualified(_ query: String?) throws(LambdaError) -> String {
        guard try checked(query).qualifier ?? FunctionRecord.latest == FunctionRecord.latest else {
            throw .invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
                    + "Please specify either a function name or an unqualified function ARN."
            )
        }
        return name
    }

    var arn: String { Self.arn(name, qualifier: qualifier) }

    private static func isQualifier(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count)
            && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "$_-".contains($0)) }
    }
}
