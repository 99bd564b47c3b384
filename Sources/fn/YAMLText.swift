// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials

/// JSON as YAML in blocks, for eyes and diffs. Scalars stay JSON scalars, which YAML reads the same.
enum YAMLText {
    private enum Value: Decodable {
        case object([String: Value])
        case list([Value])
        case scalar(String)

        init(from decoder: any Decoder) throws {
            if let object = try? [String: Value](from: decoder) {
                self = .object(object)
            } else if let list = try? [Value](from: decoder) {
                self = .list(list)
            } else {
                let container = try decoder.singleValueContainer()
                if container.decodeNil() {
                    self = .scalar("null")
                } else if let flag = try? container.decode(Bool.self) {
                    self = .scalar(flag ? "true" : "false")
                } else if let number = try? container.decode(Int64.self) {
                    self = .scalar(String(number))
                } else if let number = try? container.decode(Double.self) {
                    self = .scalar(String(number))
                } else {
                    let text = try container.decode(String.self)
                    self = .scalar(
                        (try? JSONEncoder().encode(text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
                    )
                }
            }
        }

        func lines(_ indent: String) -> [String] {
            switch self {
            case .scalar(let text): [indent + text]
            case .list(let items): items.isEmpty ? [indent + "[]"] : items.flatMap { Self.item($0, indent) }
            case .object(let members):
                members.isEmpty
                    ? [indent + "{}"]
                    : members.sorted { $0.key < $1.key }.flatMap { Self.member($0.key, $0.value, indent) }
            }
        }

        private static func item(_ value: Value, _ indent: String) -> [String] {
            var lines = value.lines(indent + "  ")
            lines[0] = indent + "- " + lines[0].dropFirst(indent.count + 2)
            return lines
        }

        private static func member(_ key: String, _ value: Value, _ indent: String) -> [String] {
            let lines = value.lines(indent + "  ")
            guard lines.count == 1, case .object(let inner) = value, !inner.isEmpty else {
                if lines.count == 1, let only = lines.first { return ["\(indent)\(key): \(only.drop { $0 == " " })"] }
                return ["\(indent)\(key):"] + lines
            }
            return ["\(indent)\(key):"] + lines
        }
    }

    static func encode(_ json: String) -> String {
        guard let value = try? JSONDecoder().decode(Value.self, from: Data(json.utf8)) else { return json }
        return value.lines("").joined(separator: "\n")
    }
}
