// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Units

/// A column of `fn top`: what it shows of a row, and what rows are ordered by.
struct TopColumn<Row> {
    enum Order: Comparable {
        case text(String)
        case number(Double)
    }

    let title: String
    /// In a narrow terminal, columns go in the order of falling ranks; those of rank 0 stay.
    let rank: Int
    let cell: (Row) -> StyledLine
    let order: (Row) -> Order
    /// Numbers stand to the right and begin with the largest.
    let isNumber: Bool
    /// A bar as wide as there is room; not sorted by.
    let gauge: ((Row) -> Gauge)?

    static func text(_ title: String, _ rank: Int, _ text: @escaping (Row) -> String) -> TopColumn {
        TopColumn(
            title: title,
            rank: rank,
            cell: { StyledLine(text($0)) },
            order: { .text(text($0)) },
            isNumber: false,
            gauge: nil
        )
    }

    /// - Parameter none: what stands there for a row that has no such number.
    static func number(
        _ title: String,
        _ rank: Int,
        _ value: @escaping (Row) -> Double?,
        none: String = "-",
        _ text: @escaping (Double) -> String
    ) -> TopColumn {
        TopColumn(
            title: title,
            rank: rank,
            cell: { StyledLine(value($0).map(text) ?? none) },
            order: { .number(value($0) ?? (none == "max" ? .infinity : -1)) },
            isNumber: true,
            gauge: nil
        )
    }

    static func size(
        _ title: String,
        _ rank: Int,
        none: String = "-",
        _ value: @escaping (Row) -> Int64?
    ) -> TopColumn {
        number(title, rank, { value($0).map(Double.init) }, none: none, { Bytes(Int64($0)).rounded })
    }

    static func bar(_ title: String, _ rank: Int, _ gauge: @escaping (Row) -> Gauge) -> TopColumn {
        TopColumn(
            title: title,
            rank: rank,
            cell: { _ in StyledLine("") },
            order: { _ in .number(0) },
            isNumber: false,
            gauge: gauge
        )
    }
}

extension TopColumn<SandboxView> {
    static var all: [TopColumn] {
        [
            text("SANDBOX", 0) { $0.id },
            text("FUNCTION", 3) { $0.function + ($0.version.map { ":\($0)" } ?? "") },
            TopColumn(
                title: "STATE",
                rank: 0,
                cell: { StyledLine($0.state, style(ofState: $0.state)) },
                order: { .text($0.state) },
                isNumber: false,
                gauge: nil
            ),
            bar("MEMORY", 1) { Gauge(used: $0.current ?? 0, soft: $0.high, hard: $0.max) },
            size("CURRENT", 0) { $0.current },
            size("HIGH", 4, none: "max") { $0.high },
            size("MAX", 2, none: "max") { $0.max },
            size("SWAP", 5) { $0.swap },
            number("PSI", 6, { $0.pressureSome }, { "\(($0 * 10).rounded() / 10)%" }),
            number("AGE", 7, { Double($0.ageMs) }, { ageText(milliseconds: Int64($0)) }),
            number("CALLS", 8, { Double($0.invocations) }, { "\(Int64($0))" }),
            text("RUNTIME", 9) { $0.runtime ?? "-" },
            text("NETWORK", 10) { $0.network ?? "-" },
        ]
    }

    private static func style(ofState state: String) -> StyledLine.Style {
        switch state {
        case "busy": .green
        case "starting", "stopping", "shrinking": .yellow
        case "shrunk", "frozen": .cyan
        default: .plain
        }
    }

    /// In the largest unit of which there are at least two.
    static func ageText(milliseconds: Int64) -> String {
        let seconds = milliseconds / 1000
        for (length, unit) in [(Int64(86_400), "d"), (3600, "h"), (60, "m")] where seconds >= 2 * length {
            return "\(seconds / length)\(unit)"
        }
        return "\(seconds)s"
    }
}

extension TopColumn<LedgerView.Function> {
    static var all: [TopColumn] {
        [
            text("FUNCTION", 0) { $0.name },
            number("SANDBOXES", 5, { Double($0.sandboxes) }, { "\(Int64($0))" }),
            bar("MEMORY", 1) { Gauge(used: $0.current, soft: nil, hard: $0.held) },
            size("CURRENT", 0) { $0.current },
            size("HOLDS", 2) { $0.held },
            size("SWAP", 3) { $0.swap },
            size("RECLAIMED", 4) { $0.reclaimed },
            number("WAKES", 6, { Double($0.wakes) }, { "\(Int64($0))" }),
            number("WAKE TIME", 7, { $0.wakePenaltyMs }, { "\(Int64($0.rounded()))ms" }),
            number("DEPTH", 8, { $0.depth }, { "\(Int64(($0 * 100).rounded()))%" }),
        ]
    }
}
