// SPDX-License-Identifier: Apache-2.0
import Yams

/// Writes a YAML node as JSON. Plain scalars are what JSON would read them as; `yes` and `0x1F` are strings.
struct JSONWriter {
    /// In bytes: an alias may stand for more than its file.
    let limit: Int
    private(set) var text = ""

    init(limit: Int) { self.limit = limit }

    /// Adds a node; `false` when it does not fit or is no value of JSON's.
    mutating func write(_ node: Node, depth: Int) -> Bool {
        guard depth < 64, text.utf8.count < limit else { return false }
        switch node {
        case .scalar(let scalar): text += Self.scalar(scalar)
        case .sequence(let items):
            text += "["
            for (index, item) in items.enumerated() {
                if index > 0 { text += "," }
                guard write(item, depth: depth + 1) else { return false }
            }
            text += "]"
        case .mapping(let members):
            text += "{"
            for (index, member) in members.enumerated() {
                guard case .scalar(let key) = member.key else { return false }
                text += (index > 0 ? "," : "") + Self.quoted(key.string) + ":"
                guard write(member.value, depth: depth + 1) else { return false }
            }
            text += "}"
        case .alias: return false
        }
        return text.utf8.count <= limit
    }

    private static func scalar(_ scalar: Node.Scalar) -> String {
        guard scalar.style == .plain || scalar.style == .any else { return quoted(scalar.string) }
        switch scalar.string {
        case "", "~", "null": return "null"
        case "true", "false": return scalar.string
        default: return isNumber(scalar.string) ? scalar.string : quoted(scalar.string)
        }
    }

    /// JSON's grammar: `-? (0|[1-9][0-9]*) (.[0-9]+)? ([eE][+-]?[0-9]+)?`
    private static func isNumber(_ text: String) -> Bool {
        var rest = Array(text.utf8)[...]
        func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
        func digits() -> Int {
            let run = rest.prefix(while: isDigit).count
            rest = rest.dropFirst(run)
            return run
        }
        if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
        let leads = rest.first == UInt8(ascii: "0")
        let whole = digits()
        guard whole > 0, !leads || whole == 1 else { return false }
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            guard digits() > 0 else { return false }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
            guard digits() > 0 else { return false }
        }
        return rest.isEmpty
    }

    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
