// SPDX-License-Identifier: Apache-2.0
import Units
import Yams

/// A flat mapping read from YAML, whose keys must be known ones; errors name file, line and column.
struct StrictYAML {
    let file: String
    private var nodes: [String: Node] = [:]

    init(_ text: String, file: String, keys: [String]) throws(FunctionsError) {
        self.file = file
        guard !YAMLAliases.areTooMany(in: text) else {
            throw .invalid("\(file): error: too many aliases (`*name`): write out what they stand for")
        }
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            throw .invalid(Self.text(error, file))
        }
        guard let root else { return }
        guard case .mapping(let mapping) = root else {
            throw .invalid("\(file):1:1: error: expected `key: value` lines")
        }
        try read(mapping, keys)
    }

    private init(_ mapping: Node.Mapping, file: String, keys: [String]) throws(FunctionsError) {
        self.file = file
        try read(mapping, keys)
    }

    private mutating func read(_ mapping: Node.Mapping, _ keys: [String]) throws(FunctionsError) {
        for (key, value) in mapping {
            let name = key.string ?? ""
            guard keys.contains(name) else {
                let near = Spelling.nearest(name, among: keys).map { "; did you mean '\($0)'?" } ?? ""
                throw .invalid("\(Self.place(file, key)): error: unknown key '\(name)'\(near)")
            }
            nodes[name] = value
        }
    }

    /// One line; Yams would draw the place below it.
    private static func text(_ error: any Error, _ file: String) -> String {
        switch error as? YamlError {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            "\(file):\(mark.line):\(mark.column): error: \(problem)"
        case .duplicatedKeysInMapping(let keys, let context):
            "\(file):\(context.mark.line):\(context.mark.column): error: "
                + "the key '\(keys.map { "\($0)" }.joined(separator: "', '"))' stands here twice"
        default: "\(file): error: \(error)"
        }
    }

    private static func place(_ file: String, _ node: Node) -> String {
        "\(file):\(node.mark?.line ?? 1):\(node.mark?.column ?? 1)"
    }

    func string(_ key: String) throws(FunctionsError) -> String? {
        guard let node = nodes[key] else { return nil }
        guard let text = node.scalar?.string, !text.isEmpty else { throw wrong(key, "a single value") }
        return text
    }

    /// A value that `read` understands.
    func value<Value>(_ key: String, _ form: String, _ read: (String) -> Value?) throws(FunctionsError) -> Value? {
        guard let text = try string(key) else { return nil }
        guard let value = read(text) else { throw wrong(key, "\(form), got '\(text)'") }
        return value
    }

    func list(_ key: String) throws(FunctionsError) -> [String]? {
        guard let node = nodes[key] else { return nil }
        guard case .sequence(let items) = node else { throw wrong(key, "a list") }
        let texts = items.compactMap { $0.scalar?.string }
        guard texts.count == items.count else { throw wrong(key, "a list of single values") }
        return texts
    }

    func map(_ key: String) throws(FunctionsError) -> [String: String]? {
        guard let node = nodes[key] else { return nil }
        guard case .mapping(let mapping) = node else { throw wrong(key, "names and values") }
        var values: [String: String] = [:]
        for (name, value) in mapping {
            guard let name = name.string, let text = value.scalar?.string else {
                throw wrong(key, "names and single values")
            }
            values[name] = text
        }
        return values
    }

    /// A mapping with keys of its own, as strict as the file.
    func section(_ key: String, keys: [String]) throws(FunctionsError) -> StrictYAML? {
        guard let node = nodes[key] else { return nil }
        guard case .mapping(let mapping) = node else { throw wrong(key, "`key: value` lines") }
        return try StrictYAML(mapping, file: file, keys: keys)
    }

    /// A list of such mappings.
    func sections(_ key: String, keys: [String]) throws(FunctionsError) -> [StrictYAML]? {
        guard let node = nodes[key] else { return nil }
        guard case .sequence(let items) = node else { throw wrong(key, "a list of `key: value` lines") }
        var sections: [StrictYAML] = []
        for item in items {
            guard case .mapping(let mapping) = item else {
                throw problem("expected `key: value` lines", key, at: item)
            }
            sections.append(try StrictYAML(mapping, file: file, keys: keys))
        }
        return sections
    }

    /// Any value, as JSON of at most `limit` bytes.
    func json(_ key: String, limit: Int) throws(FunctionsError) -> String? {
        guard let node = nodes[key] else { return nil }
        var writer = JSONWriter(limit: limit)
        guard writer.write(node, depth: 0) else {
            throw problem("expected names, lists and values, at most \(limit) bytes and 64 levels", key, at: node)
        }
        return writer.text
    }

    func wrong(_ key: String, _ expected: String) -> FunctionsError { problem("expected \(expected)", key) }

    /// An error at the place of a key's value.
    func problem(_ what: String, _ key: String) -> FunctionsError { problem(what, key, at: nodes[key]) }

    private func problem(_ what: String, _ key: String, at node: Node?) -> FunctionsError {
        .invalid("\(node.map { Self.place(file, $0) } ?? file): error: \(key): \(what)")
    }
}
