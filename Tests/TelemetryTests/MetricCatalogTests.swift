// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Telemetry

@Suite("What is promised of metrics")
struct MetricCatalogTests {
    /// The expressions of Examples/monitoring, with what they belong to.
    private static func expressions(_ file: String, _ form: Regex<(Substring, Substring)>) throws -> [String] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "Examples/monitoring/\(file)"), encoding: .utf8)
        return text.matches(of: form).map { String($0.output.1) }
    }

    private static func dashboard() throws -> [String] { try expressions("dashboard.json", /"expr": "(.*)",?\n/) }

    /// Of an alert's expression, which may go over lines up to its labels.
    private static func alerts() throws -> [String] {
        try expressions("alerts.yaml", /expr:([\s\S]*?)\n {8}(?:for|labels):/)
    }

    private static func names(_ expression: String) -> Set<String> {
        Set(expression.matches(of: /\b(?:fn|process)_[a-z_]+/).map { String($0.output) })
    }

    private static func family(_ name: String) -> Metrics.Family? {
        let whole = Metrics.catalog.first { $0.name == name }
        guard whole == nil || whole?.kind == .histogram else { return whole }
        for part in ["_bucket", "_sum", "_count"] where name.hasSuffix(part) {
            return Metrics.catalog.first { $0.kind == .histogram && $0.name == name.dropLast(part.count) }
        }
        return nil
    }

    @Test("every metric that alerts and dashboard ask for is one, and only of what counts upwards a rate is asked")
    func asked() throws {
        let (alerts, dashboard) = (try Self.alerts(), try Self.dashboard())
        #expect(alerts.count > 15 && dashboard.count > 50)
        for expression in alerts + dashboard where !expression.contains("ALERTS") {
            let names = Self.names(expression)
            #expect(!names.isEmpty || expression.contains("up{"), "\(expression)")
            for name in names { #expect(Self.family(name) != nil, "\(name) in \(expression)") }
            for rate in expression.matches(of: /(?:rate|increase)\((\w+)/) {
                #expect(Self.family(String(rate.output.1))?.kind != .gauge, "\(rate.output.0) of what may go down")
            }
        }
    }

    @Test("the dashboard shows every metric there is")
    func shown() throws {
        let shown = try Self.dashboard()
            .reduce(into: Set<String>()) { all, expression in
                all.formUnion(Self.names(expression).compactMap { Self.family($0)?.name })
            }
        #expect(Set(Metrics.catalog.map(\.name)).subtracting(shown).isEmpty)
    }

    @Test("names follow Prometheus' rules: a counter ends in _total, a time is in seconds, nothing is there twice")
    func names() {
        for family in Metrics.catalog {
            #expect(family.name.hasSuffix("_total") == (family.kind == .counter), "\(family.name)")
            #expect(family.name.hasPrefix("fn_") || family.name.hasPrefix("process_"))
            #expect(!family.help.isEmpty && !family.name.contains("_ms"))
        }
        #expect(Set(Metrics.catalog.map(\.name)).count == Metrics.catalog.count)
    }
}
