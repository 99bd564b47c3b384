// SPDX-License-Identifier: Apache-2.0
import Units

/// How the kinds of values are read. Each returns a row of the schema.
extension Schema {
    typealias Path<Value> = any WritableKeyPath<Settings, Value> & Sendable

    static func bytes(
        _ path: String,
        _ member: Path<Bytes>,
        _ fallback: String,
        least: Bytes = .zero,
        live: Bool = true,
        _ doc: String
    ) -> Setting {
        let form = "a size such as '256MiB'" + (least > .zero ? ", at least \(least)" : "")
        return Setting(path: path, form: form, fallback: fallback, isLive: live, doc: doc, shape: .size) {
            text,
            settings,
            _ in
            guard let value = Bytes(text), value >= least else { return false }
            settings[keyPath: member] = value
            return true
        }
    }

    /// A size that may also be absent, under a name of its own.
    static func optional(_ path: String, _ member: Path<Bytes?>, none: String, _ doc: String) -> Setting {
        Setting(
            path: path,
            form: "a size such as '256MiB', or \(none)",
            fallback: none,
            isLive: true,
            doc: doc,
            shape: .either(.size, or: none)
        ) { text, settings, _ in
            settings[keyPath: member] = Bytes(text)
            return text == none || Bytes(text).map { $0 > .zero } == true
        }
    }

    /// A size, or a share of the machine's memory.
    static func share(_ path: String, _ member: Path<Bytes>, _ fallback: String, _ doc: String) -> Setting {
        let form = "a size such as '8GiB' or a share of the machine's memory such as '80%', not more than it has"
        return Setting(path: path, form: form, fallback: fallback, isLive: true, doc: doc, shape: .share) {
            text,
            settings,
            machine in
            let percent = text.hasSuffix("%") ? Double(text.dropLast()) : nil
            guard let value = percent.map({ machine.memory * ($0 / 100) }) ?? Bytes(text) else { return false }
            settings[keyPath: member] = value
            return value > .zero && value <= machine.memory
        }
    }

    static func cpu(_ path: String, _ member: Path<CPUQuota>, _ fallback: String, _ doc: String) -> Setting {
        let form = "a number of cores such as '1.5' or '150%', at least 0.01"
        return Setting(path: path, form: form, fallback: fallback, isLive: true, doc: doc, shape: .cores) {
            text,
            settings,
            _ in
            guard let value = CPUQuota(text), value.millis >= 10 else { return false }
            settings[keyPath: member] = value
            return true
        }
    }

    static func duration(
        _ path: String,
        _ member: Path<Duration>,
        _ fallback: String,
        live: Bool = true,
        _ doc: String
    ) -> Setting {
        let form = "a duration such as '30s' or '250ms'"
        return Setting(path: path, form: form, fallback: fallback, isLive: live, doc: doc, shape: .duration) {
            text,
            settings,
            _ in
            guard let value = Duration(text: text), value > .zero else { return false }
            settings[keyPath: member] = value
            return true
        }
    }

    /// A share of something, from 0 to 1 in the settings.
    static func percent(
        _ path: String,
        _ member: Path<Double>,
        _ fallback: String,
        from range: ClosedRange<Int> = 0...100,
        _ doc: String
    ) -> Setting {
        let form = "a share such as '\(fallback)', from \(range.lowerBound)% to \(range.upperBound)%"
        return Setting(path: path, form: form, fallback: fallback, isLive: true, doc: doc, shape: .percent(range)) {
            text,
            settings,
            _ in
            guard text.hasSuffix("%"), let value = Double(text.dropLast()), value >= Double(range.lowerBound),
                value <= Double(range.upperBound)
            else { return false }
            settings[keyPath: member] = value / 100
            return true
        }
    }

    static func int(
        _ path: String,
        _ member: Path<Int>,
        _ fallback: String,
        _ range: ClosedRange<Int>,
        live: Bool = true,
        _ doc: String
    ) -> Setting {
        let form = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return Setting(path: path, form: form, fallback: fallback, isLive: live, doc: doc, shape: .whole(range)) {
            text,
            settings,
            _ in
            guard let value = Int(text), range.contains(value) else { return false }
            settings[keyPath: member] = value
            return true
        }
    }

    static func choice<Value: RawRepresentable<String> & CaseIterable & Sendable>(
        _ path: String,
        _ member: Path<Value>,
        _ fallback: String,
        live: Bool = true,
        _ doc: String
    ) -> Setting {
        let words = Value.allCases.map(\.rawValue)
        let form = "one of " + words.joined(separator: ", ")
        return Setting(path: path, form: form, fallback: fallback, isLive: live, doc: doc, shape: .words(words)) {
            text,
            settings,
            _ in
            guard let value = Value(rawValue: text) else { return false }
            settings[keyPath: member] = value
            return true
        }
    }

    static func string(_ path: String, _ member: Path<String>, _ fallback: String, _ doc: String) -> Setting {
        Setting(path: path, form: "a path", fallback: fallback, isLive: false, doc: doc) { text, settings, _ in
            settings[keyPath: member] = text
            return !text.isEmpty
        }
    }

    /// A file that need not be.
    static func file(_ path: String, _ member: Path<String?>, _ doc: String) -> Setting {
        Setting(path: path, form: "a path, or none", fallback: "none", isLive: false, doc: doc) { text, settings, _ in
            settings[keyPath: member] = text == "none" ? nil : text
            return !text.isEmpty
        }
    }
}
