// SPDX-License-Identifier: Apache-2.0

/// The shape of a value for programs; `Setting.form` says it for people.
package indirect enum ValueShape: Sendable {
    case size
    /// A size, or a percentage.
    case share
    /// A percentage from one whole number to another, of which the last is 100 or 1000.
    case percent(ClosedRange<Int>)
    /// A number of processors, or a percentage of all.
    case processors
    /// So many a second.
    case rate
    /// A number for all, or a section of numbers by name.
    case counts
    case cores
    /// Not below something.
    case number(least: Int)
    case duration
    case whole(ClosedRange<Int>)
    case words([String])
    /// Several, separated by commas, or a list of YAML's.
    case list
    case either(ValueShape, or: String)
    case text
}

/// A JSON value, as far as a schema needs them.
package indirect enum SchemaValue: Encodable, Sendable, Equatable {
    case text(String)
    case number(Int)
    case flag(Bool)
    case list([SchemaValue])
    case object([String: SchemaValue])

    package func encode(to encoder: any Encoder) throws {
        switch self {
        case .text(let text): try text.encode(to: encoder)
        case .number(let number): try number.encode(to: encoder)
        case .flag(let flag): try flag.encode(to: encoder)
        case .list(let values): try values.encode(to: encoder)
        case .object(let members): try members.encode(to: encoder)
        }
    }
}

extension Schema {
    /// `fn.yaml` as a JSON Schema (draft 2020-12), with which editors complete and check it.
    ///
    /// It knows each value's form alone; what contradicts another value, `fn config check` finds.
    package static var json: SchemaValue {
        var sections: [String: [String: SchemaValue]] = [:]
        for setting in settings {
            let parts = setting.path.split(separator: ".", maxSplits: 1).map(String.init)
            sections[parts[0], default: [:]][parts[1]] = property(setting)
        }
        sections = sections.mapValues(nested)
        sections["defaults", default: [:]]["env"] = .object([
            "type": .text("object"), "description": .text("variables that every function receives"),
            "additionalProperties": .object(["type": .list(["string", "number", "boolean"].map { .text($0) })]),
        ])
        var properties = sections.mapValues(section)
        properties["version"] = .object(["enum": .list([.number(1), .text("1")])])
        properties["functions"] = .object([
            "type": .text("object"),
            "description": .text("the operator's word on functions, by name or by a pattern that ends in *"),
            "additionalProperties": section(overrides),
        ])
        guard case .object(var root) = section(properties) else { return .object([:]) }
        root["$schema"] = .text("https://json-schema.org/draft/2020-12/schema")
        root["title"] = .text("fn.yaml")
        return .object(root)
    }

    /// Keys such as `tls.cert` as sections of their own.
    private static func nested(_ properties: [String: SchemaValue]) -> [String: SchemaValue] {
        var result = properties.filter { !$0.key.contains(".") }
        let inner = Dictionary(grouping: properties.filter { $0.key.contains(".") }) { $0.key.prefix { $0 != "." } }
        for (name, members) in inner {
            result[String(name)] = section(
                Dictionary(uniqueKeysWithValues: members.map { (String($0.key.dropFirst(name.count + 1)), $0.value) })
            )
        }
        return result
    }

    private static func section(_ properties: [String: SchemaValue]) -> SchemaValue {
        .object([
            "type": .text("object"), "additionalProperties": .flag(false), "properties": .object(properties),
        ])
    }

    private static var overrides: [String: SchemaValue] {
        let rows = overrideKeys.map { key in (key, find("defaults.\(key)").map(property)) }
        let reclaim = SchemaValue.object(ValueShape.words(["auto", "off"]).members)
        return Dictionary(uniqueKeysWithValues: rows.map { ($0.0, $0.1 ?? reclaim) })
    }

    private static func property(_ setting: Setting) -> SchemaValue {
        var members = setting.shape.members
        let applies = setting.isLive ? "at once" : "after a restart"
        members["description"] = .text("\(setting.doc): \(setting.form). Applies \(applies).")
        members["default"] = setting.shape.value(setting.fallback)
        return .object(members)
    }
}

extension ValueShape {
    private static var number: String { #"[0-9]+(\.[0-9]+)?"# }
    private static var unit: String { "([KMGT]i?)?B" }

    private static func percentage(_ range: ClosedRange<Int>) -> String {
        let digits = String(range.upperBound).count - 1
        let whole = range.lowerBound == 0 ? "[0-9]{1,\(digits)}" : "[1-9][0-9]{0,\(digits - 1)}"
        return #"(\#(range.upperBound)(\.0+)?|\#(whole)(\.[0-9]+)?)%"#
    }

    fileprivate var members: [String: SchemaValue] {
        func text(_ pattern: String, or other: String? = nil) -> [String: SchemaValue] {
            let types = ["string"] + (other.map { [$0] } ?? [])
            return [
                "type": .list(types.map { .text($0) }), "pattern": .text("^\(pattern)$"), "minimum": .number(0),
            ]
        }
        switch self {
        case .size: return text("\(Self.number) ?(\(Self.unit))?", or: "integer")
        case .share: return text("\(Self.number)(%| ?\(Self.unit))?", or: "integer")
        case .number(let least):
            return text(Self.number, or: "number").merging(["minimum": .number(least)]) { $1 }
        case .percent(let range):
            return ["type": .text("string"), "pattern": .text("^\(Self.percentage(range))$")]
        case .processors: return text("(\(Self.number)|\(Self.percentage(0...100)))", or: "number")
        case .rate: return ["type": .text("string"), "pattern": .text("^\(Self.number)/s$")]
        case .counts:
            let number: [String: SchemaValue] = ["type": .text("integer"), "minimum": .number(0)]
            let section: [String: SchemaValue] = ["type": .text("object"), "additionalProperties": .object(number)]
            return ["anyOf": .list([.object(number), .object(section)])]
        case .cores: return text("\(Self.number)%?", or: "number")
        case .duration: return text("\(Self.number)(ms|s|m|h|d)")
        case .whole(let range):
            return [
                "type": .text("integer"), "minimum": .number(range.lowerBound), "maximum": .number(range.upperBound),
            ]
        case .words(let words): return ["enum": .list(words.flatMap(Self.spellings))]
        case .either(let shape, let word):
            return ["anyOf": .list([.object(shape.members), .object(Self.words([word]).members)])]
        case .list:
            let items = SchemaValue.object(["type": .text("string")])
            return ["type": .list(["string", "array"].map { .text($0) }), "items": items, "minItems": .number(1)]
        case .text: return ["type": .list(["string", "integer"].map { .text($0) })]
        }
    }

    var isList: Bool {
        switch self {
        case .list: true
        case .either(let shape, _): shape.isList
        default: false
        }
    }

    var isCounts: Bool { if case .counts = self { true } else { false } }

    /// What a value looks like in the file, for who wrote something else.
    var inYAML: String {
        isList
            ? "values separated by commas, or a list"
            : isCounts ? "a number, or a section of numbers" : "a single value"
    }

    /// Some parsers of YAML take a few plain words for booleans; ours takes all for what is written.
    private static func spellings(_ word: String) -> [SchemaValue] {
        switch word {
        case "off", "no", "false": [.text(word), .flag(false)]
        case "on", "yes", "true": [.text(word), .flag(true)]
        default: [.text(word)]
        }
    }

    fileprivate func value(_ text: String) -> SchemaValue {
        switch self {
        case .whole, .counts: if let number = Int(text) { return .number(number) }
        default: break
        }
        return .text(text)
    }
}
