// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Counters and histograms, and their text in Prometheus' exposition format 0.0.4.
///
/// Gauges are not kept: whoever renders passes what is true at that moment.
package final class Metrics: Sendable {
    package enum Kind: String, Sendable {
        case counter
        case gauge
        case histogram
    }

    /// One metric: its name is its identity.
    package struct Family: Sendable {
        package let name: String
        package let kind: Kind
        package let help: String

        package init(_ name: String, _ kind: Kind, _ help: String) {
            self.name = name
            self.kind = kind
            self.help = help
        }
    }

    /// Label names and values, in the order in which they are written.
    package typealias Labels = [(String, String)]

    private struct Histogram {
        var buckets = [UInt64](repeating: 0, count: Metrics.buckets.count)
        var sum = 0.0
        var count: UInt64 = 0

        mutating func add(_ seconds: Double) {
            for index in buckets.indices.reversed() {
                guard seconds <= Metrics.buckets[index] else { break }
                buckets[index] += 1
            }
            sum += seconds
            count += 1
        }
    }

    private struct Series {
        var value = 0.0
        var histogram: Histogram?
    }

    /// Upper edges in seconds: those that OpenTelemetry advises for functions.
    private static let buckets = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    /// Past this number of series of one metric further ones are dropped: names come from users.
    private static let seriesLimit = 5000

    private let families: [Family]
    private let state = Mutex<[String: [String: Series]]>([:])

    package init(_ families: [Family]) { self.families = families }

    package func count(_ name: String, _ labels: Labels = [], by amount: Double = 1) {
        update(name, labels) { $0.value += amount }
    }

    package func observe(_ name: String, _ labels: Labels = [], seconds: Double) {
        update(name, labels) { series in
            if series.histogram == nil { series.histogram = Histogram() }
            series.histogram?.add(seconds)
        }
    }

    private func update(_ name: String, _ labels: Labels, _ body: (inout Series) -> Void) {
        let key = Self.text(labels)
        state.withLock { state in Self.update(&state[name, default: [:]], key, body) }
    }

    private static func update(_ series: inout [String: Series], _ key: String, _ body: (inout Series) -> Void) {
        guard let index = series.index(forKey: key) else {
            guard series.count < seriesLimit else { return }
            return body(&series[key, default: Series()])
        }
        body(&series.values[index])
    }

    /// Everything, with `gauges` that hold now; a gauge of a name that no family has is left out.
    package func render(_ gauges: [(name: String, labels: Labels, value: Double)] = []) -> String {
        let kept = state.withLock { $0 }
        let now = Dictionary(grouping: gauges, by: \.name)
        var text = ""
        for family in families {
            let series = kept[family.name] ?? [:]
            let current = now[family.name] ?? []
            guard !series.isEmpty || !current.isEmpty else { continue }
            text += "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.kind.rawValue)\n"
            for (labels, series) in series.sorted(by: { $0.key < $1.key }) {
                if let histogram = series.histogram {
                    text += Self.lines(family.name, labels, histogram)
                } else {
                    text += Self.line(family.name, labels, series.value)
                }
            }
            for gauge in current { text += Self.line(gauge.name, Self.text(gauge.labels), gauge.value) }
        }
        return text
    }

    private static func lines(_ name: String, _ labels: String, _ histogram: Histogram) -> String {
        func with(_ edge: String) -> String { labels.isEmpty ? "le=\"\(edge)\"" : "\(labels),le=\"\(edge)\"" }
        var text = ""
        for (edge, count) in zip(buckets, histogram.buckets) {
            text += line("\(name)_bucket", with(number(edge)), Double(count))
        }
        text += line("\(name)_bucket", with("+Inf"), Double(histogram.count))
        text += line("\(name)_sum", labels, histogram.sum)
        return text + line("\(name)_count", labels, Double(histogram.count))
    }

    private static func line(_ name: String, _ labels: String, _ value: Double) -> String {
        "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(number(value))\n"
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
    }

    private static func text(_ labels: Labels) -> String {
        var text = ""
        text.reserveCapacity(128)
        for (name, value) in labels {
            if !text.isEmpty { text += "," }
            text += name
            text += "=\""
            text += escaped(value)
            text += "\""
        }
        return text
    }

    private static func escaped(_ text: String) -> String {
        // Every call counts under its function's name: most values have nothing to escape.
        let special: (UInt8) -> Bool = {
            $0 == UInt8(ascii: "\\") || $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\n")
        }
        guard text.utf8.contains(where: special) else { return text }
        var result = ""
        for character in text {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }
}
