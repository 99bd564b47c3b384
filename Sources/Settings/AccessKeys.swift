// SPDX-License-Identifier: Apache-2.0
import Linux
import Units
import Yams

/// Who may use the daemon: the contents of the file that `auth.keys` names.
///
///     tokens:
///       ci: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08   # printf %s TOKEN | sha256sum
///     keys:
///       AKIDEXAMPLE: {secret: wJalrXUtnFEMI, name: deploy}
package struct AccessKeys: Sendable, Equatable {
    package struct Token: Sendable, Equatable {
        package var name: String
        /// SHA-256 of the token, 32 bytes.
        package var digest: [UInt8]
    }

    package struct Key: Sendable, Equatable {
        package var name: String
        package var secret: String
    }

    package var tokens: [Token] = []
    /// By access key ID.
    package var keys: [String: Key] = [:]

    package init() {}

    /// Reads a file that nobody but root may have written or, beside its group, read.
    package static func read(_ path: String) throws(SettingsErrors) -> AccessKeys {
        let text: String
        do throws(PrivateFileError) {
            text = try PrivateFile.read(path)
        } catch {
            throw SettingsErrors(problems: [SettingsProblem(source: path, message: "the file of keys \(error)")])
        }
        var parser = AccessKeysParser(file: path)
        parser.parse(text)
        guard parser.problems.isEmpty else { throw SettingsErrors(problems: parser.problems) }
        return parser.keys
    }
}

/// Reads the file strictly. No problem repeats a value: it may be a secret.
struct AccessKeysParser {
    let file: String
    private(set) var keys = AccessKeys()
    private(set) var problems: [SettingsProblem] = []

    init(file: String) { self.file = file }

    mutating func parse(_ text: String) {
        do {
            guard let root = try Yams.compose(yaml: text) else { return }
            guard case .mapping(let sections) = root else {
                return report(root, "expected the sections 'tokens' and 'keys'")
            }
            for (key, value) in sections {
                switch key.string {
                case "tokens": entries(value, "tokens") { $0.token($1, $2) }
                case "keys": entries(value, "keys") { $0.key($1, $2) }
                default: unknown(key, among: ["tokens", "keys"])
                }
            }
        } catch let error as YamlError {
            problems.append(SettingsFile.problem(error, file))
        } catch {
            problems.append(SettingsProblem(source: file, message: "this is no YAML"))
        }
    }

    private mutating func report(_ node: Node, _ message: String) {
        problems.append(
            SettingsProblem(source: file, line: node.mark?.line, column: node.mark?.column, message: message)
        )
    }

    private mutating func unknown(_ key: Node, among known: [String]) {
        let hint = Spelling.nearest(key.string ?? "", among: known).map { "; did you mean '\($0)'?" } ?? ""
        report(key, "unknown key '\(key.string ?? "")'\(hint)")
    }

    private mutating func entries(
        _ node: Node,
        _ section: String,
        _ read: (inout AccessKeysParser, Node, Node) -> Void
    ) {
        if node.scalar?.string.isEmpty == true { return }
        guard case .mapping(let mapping) = node else { return report(node, "'\(section)' must be a section") }
        for (key, value) in mapping { read(&self, key, value) }
    }

    private mutating func token(_ name: Node, _ value: Node) {
        guard let digest = value.scalar.flatMap({ Hex.decode($0.string) }), digest.count == 32 else {
            return report(
                value,
                "tokens: expected the token's SHA-256, 64 hexadecimal digits (printf %s TOKEN | sha256sum)"
            )
        }
        keys.tokens.append(AccessKeys.Token(name: name.string ?? "", digest: digest))
    }

    private mutating func key(_ id: Node, _ value: Node) {
        guard let name = id.string, !name.isEmpty, name.utf8.allSatisfy(Self.isWordByte) else {
            return report(id, "keys: an access key ID is made of letters, digits, '_' and '-'")
        }
        guard case .mapping(let members) = value else {
            return report(value, "keys.\(name): expected {secret: …, name: …}")
        }
        var key = AccessKeys.Key(name: name, secret: "")
        for (member, text) in members {
            switch member.string {
            case "secret": key.secret = text.scalar?.string ?? ""
            case "name": key.name = text.scalar?.string ?? name
            default: unknown(member, among: ["secret", "name"])
            }
        }
        guard !key.secret.isEmpty else { return report(id, "keys.\(name): 'secret' is missing") }
        keys.keys[name] = key
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
