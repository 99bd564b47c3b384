// SPDX-License-Identifier: Apache-2.0
import Units
import Yams

/// Reads `fn.yaml` strictly: every key must be known, every value must be right, and every problem has a line.
struct SettingsFile {
    private let file: String
    private(set) var problems: [SettingsProblem] = []
    /// Values by path, as they were written, with the line they stand on.
    private(set) var values: [String: (text: String, line: Int, column: Int)] = [:]
    private(set) var overrides: [String: FunctionOverride] = [:]
    private(set) var environment: [String: String] = [:]
    /// Where each value stands, those of the sections that hold maps included.
    private(set) var places: [String: (line: Int, column: Int)] = [:]
    /// What the sections that hold maps say, `functions` and `defaults.env`, in the order of the file.
    private(set) var entries: [SettingsValue] = []

    init(text: String, file: String) {
        self.file = file
        guard !YAMLAliases.areTooMany(in: text) else {
            problems = [
                SettingsProblem(source: file, message: "too many aliases (`*name`): write out what they stand for")
            ]
            return
        }
        do {
            guard let root = try Yams.compose(yaml: text) else { return }
            section(root, path: "")
        } catch let error as YamlError {
            problems.append(Self.problem(error, file))
        } catch {
            problems.append(SettingsProblem(source: file, message: "\(error)"))
        }
    }

    static func problem(_ error: YamlError, _ file: String) -> SettingsProblem {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            SettingsProblem(source: file, line: mark.line, column: mark.column, message: problem)
        case .duplicatedKeysInMapping(let keys, let context):
            SettingsProblem(
                source: file,
                line: context.mark.line,
                column: context.mark.column,
                message: "the key '\(keys.map { "\($0)" }.joined(separator: "', '"))' stands here twice"
            )
        // The rest of such an error is the file itself.
        case .reader(let problem, _, _, _): SettingsProblem(source: file, message: "this is no text: \(problem)")
        default: SettingsProblem(source: file, message: "\(error)")
        }
    }

    private mutating func report(_ node: Node, _ message: String) {
        problems.append(
            SettingsProblem(source: file, line: node.mark?.line, column: node.mark?.column, message: message)
        )
    }

    private mutating func section(_ node: Node, path: String) {
        guard case .mapping(let mapping) = node else {
            if path.isEmpty, node.scalar?.string.isEmpty == true { return }
            return report(node, "'\(path.isEmpty ? "the file" : path)' must be a section with settings in it")
        }
        for (key, value) in mapping {
            let full = path.isEmpty ? key.string ?? "" : "\(path).\(key.string ?? "")"
            switch full {
            case "version": if value.string != "1" { report(value, "version: this daemon reads version 1") }
            case "functions": functions(value)
            case "defaults.env": env(value)
            case _ where key.string?.contains(".") == true:
                report(key, "'\(full)' is a setting within a section: write \(Self.nested(full))")
            default: setting(key, value, full)
            }
        }
    }

    /// `a: {b: {c: …}}` for `a.b.c`.
    private static func nested(_ path: String) -> String {
        let parts = path.split(separator: ".")
        return parts.dropLast().map { "\($0): {" }.joined() + "\(parts.last ?? ""): …"
            + parts.dropLast().map { _ in "}" }.joined()
    }

    private mutating func setting(_ key: Node, _ value: Node, _ path: String) {
        if Schema.find(path) != nil {
            let (shape, fallback) = Schema.find(path).map { ($0.shape, $0.fallback) } ?? (.text, "")
            // Nothing is `none`, where there may be none.
            let written = Self.text(value, shape).map { $0.isEmpty && fallback == "none" ? fallback : $0 }
            guard let text = written, !text.isEmpty || Schema.find(path)?.mayBeEmpty == true else {
                return report(key, "'\(path)' must be \(shape.inYAML)")
            }
            values[path] = (text, value.mark?.line ?? 0, value.mark?.column ?? 0)
            places[path] = (value.mark?.line ?? 0, value.mark?.column ?? 0)
        } else if Self.sections.contains(path) {
            section(value, path: path)
        } else {
            let parent = path.split(separator: ".").dropLast().joined(separator: ".")
            report(key, "unknown setting '\(path)'" + Self.hint(path, below: parent))
        }
    }

    /// A value as it would stand in a single line: `a,b` for a list, `name=1,other=2` for counts by name.
    private static func text(_ node: Node, _ shape: ValueShape) -> String? {
        switch node {
        case .sequence(let items) where shape.isList:
            let texts = items.compactMap { $0.scalar?.string }
            return texts.count == items.count ? texts.joined(separator: ",") : nil
        case .mapping(let members) where shape.isCounts:
            let texts = members.compactMap { key, value in
                key.string.flatMap { key in value.scalar.map { "\(key)=\($0.string)" } }
            }
            return texts.count == members.count ? texts.joined(separator: ",") : nil
        default: return node.scalar?.string
        }
    }

    private static let sections = Set(
        Schema.settings.compactMap { $0.path.split(separator: ".").dropLast().joined(separator: ".") }
    )

    private static func hint(_ path: String, below parent: String) -> String {
        let known = Schema.settings.map(\.path) + sections + ["functions", "version", "defaults.env"]
        let siblings = known.compactMap { candidate -> String? in
            let parts = candidate.split(separator: ".")
            return parts.dropLast().joined(separator: ".") == parent ? parts.last.map(String.init) : nil
        }
        let word = path.split(separator: ".").last.map(String.init) ?? path
        if let near = Spelling.nearest(word, among: siblings) { return "; did you mean '\(near)'?" }
        // Rightly spelt, and in the wrong place.
        let elsewhere = Schema.settings.map(\.path).filter { $0.hasSuffix(".\(word)") }.map { "'\($0)'" }
        guard let last = elsewhere.last else { return "" }
        let others = elsewhere.dropLast().joined(separator: ", ")
        return "; did you mean \(others.isEmpty ? "" : "\(others) or ")\(last)?"
    }

    private mutating func env(_ node: Node) {
        guard case .mapping(let mapping) = node else { return report(node, "'defaults.env' must map names to values") }
        for (key, value) in mapping {
            guard let name = key.string, let text = value.scalar?.string else {
                report(key, "'defaults.env' must map names to single values")
                continue
            }
            guard !name.isEmpty, !name.contains(where: { $0 == "=" || $0.isWhitespace }) else {
                report(key, "defaults.env: '\(name)' is no name of a variable")
                continue
            }
            environment[name] = text
            enter("defaults.env.\(name)", text, value)
        }
    }

    private mutating func enter(_ path: String, _ text: String, _ node: Node) {
        places[path] = (node.mark?.line ?? 0, node.mark?.column ?? 0)
        entries.append(SettingsValue(path: path, text: text, origin: .file(file, line: node.mark?.line ?? 0)))
    }

    private mutating func functions(_ node: Node) {
        guard case .mapping(let mapping) = node else {
            return report(node, "'functions' must map names or patterns to settings")
        }
        for (key, value) in mapping {
            guard let pattern = key.string, case .mapping(let entries) = value else {
                report(key, "'functions.\(key.string ?? "")' must be a section with settings in it")
                continue
            }
            guard Self.isPattern(pattern) else {
                report(
                    key,
                    "functions: '\(pattern)' matches no function: expected a name of A-Z, a-z, 0-9, - and _, or the beginning of one and a *"
                )
                continue
            }
            var override = FunctionOverride()
            for (name, value) in entries { self.override(pattern, name, value, &override) }
            overrides[pattern] = override
        }
    }

    private mutating func override(_ pattern: String, _ key: Node, _ value: Node, _ override: inout FunctionOverride) {
        let name = key.string ?? ""
        guard Schema.overrideKeys.contains(name) else {
            let hint = Spelling.nearest(name, among: Schema.overrideKeys).map { "; did you mean '\($0)'?" } ?? ""
            return report(key, "unknown setting 'functions.\(pattern).\(name)'\(hint)")
        }
        let text = value.scalar?.string ?? ""
        enter("functions.\(pattern).\(name)", text, value)
        let form: String
        if name == "reclaim" {
            override.reclaim = ["auto": true, "off": false][text]
            form = override.reclaim == nil ? "one of auto, off" : ""
        } else {
            form = Self.read(name, text, &override)
        }
        if !form.isEmpty { report(value, "functions.\(pattern).\(name): expected \(form), got '\(text)'") }
    }

    /// Reads a value as `defaults` would.
    ///
    /// - Returns: what was expected, where it is wrong; else nothing.
    private static func read(_ name: String, _ text: String, _ override: inout FunctionOverride) -> String {
        guard let setting = Schema.find("defaults.\(name)") else { return "a value" }
        var settings = Settings()
        guard setting.read(text, &settings, Machine(memory: .zero, cpus: 1)) else { return setting.form }
        let word = settings.defaults
        switch name {
        case "memory": override.memory = word.memory
        case "memory_low": override.memoryLow = word.memoryLow
        case "memory_high": override.memoryHigh = .some(word.memoryHigh)
        case "io_weight": override.ioWeight = word.ioWeight
        case "memory_burst": override.memoryBurst = .some(word.memoryBurst)
        case "io_read": override.ioRead = .some(word.ioRead)
        case "io_write": override.ioWrite = .some(word.ioWrite)
        case "cpus": override.cpus = word.cpus
        case "cpu_weight": override.cpuWeight = word.cpuWeight
        case "pids": override.pids = word.pids
        case "tmp": override.tmp = word.tmp
        case "timeout": override.timeout = word.timeout
        case "concurrency": override.concurrency = word.concurrency
        case "min_warm": override.minWarm = word.minWarm
        case "per_sandbox": override.perSandbox = word.perSandbox
        case "network": override.network = word.network
        default: preconditionFailure("Schema.overrideKeys names '\(name)', and nobody reads it")
        }
        return ""
    }

    private static func isPattern(_ text: String) -> Bool {
        let name = text.hasSuffix("*") ? text.dropLast() : text[...]
        return !text.isEmpty && name.utf8.count <= 64
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) || "-_".contains($0) }
    }
}
