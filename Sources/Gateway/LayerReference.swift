// SPDX-License-Identifier: Apache-2.0

/// A version of a layer as Lambda's clients name it.
struct LayerReference: Equatable, CustomStringConvertible {
    var name: String
    var version: Int

    static func arn(_ name: String) -> String {
        "arn:aws:lambda:\(FunctionReference.region):\(FunctionReference.account):layer:\(name)"
    }

    var description: String { "\(Self.arn(name)):\(version)" }

    init(name: String, version: Int) {
        self.name = name
        self.version = version
    }

    /// By a layer's name or ARN, and a number.
    init(_ layer: String, version text: String) throws(LambdaError) {
        name = try Self.checkName(layer)
        guard let number = Int(text), number > 0 else {
            throw .validation(text, "versionNumber", "have value greater than or equal to 1")
        }
        version = number
    }

    /// By the ARN of a version: `arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION`.
    init(arn: String) throws(LambdaError) {
        let parts = arn.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 8, parts[0] == "arn", parts[2] == "lambda", parts[5] == "layer",
            let number = Int(parts[7]),
            number > 0, Self.isName(parts[6])
        else {
            let pattern = "arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+"
            throw .validation(arn, "layers", "satisfy regular expression pattern: \(pattern)")
        }
        (name, version) = (parts[6], number)
    }

    /// The name of a layer, out of its ARN where it is one.
    static func checkName(_ text: String) throws(LambdaError) -> String {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let name = parts.count == 7 && parts[0] == "arn" && parts[5] == "layer" ? parts[6] : text
        guard isName(name) else {
            throw .validation(text, "layerName", "satisfy regular expression pattern: [a-zA-Z0-9-_]+")
        }
        return name
    }

    private static func isName(_ text: String) -> Bool {
        (1...140).contains(text.utf8.count)
            && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
    }
}
