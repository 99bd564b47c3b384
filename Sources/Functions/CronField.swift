// SPDX-License-Identifier: Apache-2.0
import Units

/// One field of a cron line: the values at which it matches.
struct CronField: Sendable, Equatable {
    enum Kind: String, Sendable {
        case minute
        case hour
        case day = "day of the month"
        case month
        case weekday = "day of the week"

        var range: ClosedRange<Int> {
            switch self {
            case .minute: 0...59
            case .hour: 0...23
            case .day: 1...31
            case .month: 1...12
            case .weekday: 0...7
            }
        }

        /// The first one stands for the smallest value.
        var names: [String] {
            switch self {
            case .month: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
            case .weekday: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
            default: []
            }
        }
    }

    private var bits: UInt64 = 0
    /// Does not begin with `*`, which decides how days of the month and of the week go together.
    let isRestricted: Bool

    func contains(_ value: Int) -> Bool { bits >> UInt64(value) & 1 == 1 }

    init(_ text: String, _ kind: Kind) throws(ScheduleProblem) {
        isRestricted = !text.hasPrefix("*")
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count <= 2, let first = parts.first else {
                throw Self.wrong(item, kind, "is no value or range")
            }
            let range = try Self.range(first, kind, wholeItem: item, hasStep: parts.count == 2)
            let step = parts.count == 2 ? try Self.step(parts[1], kind, item) : 1
            for value in stride(from: range.lowerBound, through: range.upperBound, by: step) {
                bits |= 1 << UInt64(kind == .weekday ? value % 7 : value)  // 7 is Sunday too
            }
        }
    }

    private static func range(
        _ text: Substring,
        _ kind: Kind,
        wholeItem item: Substring,
        hasStep: Bool
    ) throws(ScheduleProblem) -> ClosedRange<Int> {
        if text == "*" { return kind == .weekday ? 0...6 : kind.range }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count <= 2, let first = ends.first else { throw wrong(item, kind, "is no value or range") }
        let low = try value(first, kind, item)
        guard ends.count == 2 else {
            guard !hasStep else { throw wrong(item, kind, "has a step and no range") }
            return low...low
        }
        var high = try value(ends[1], kind, item)
        if kind == .weekday, high == 0, low > 0 { high = 7 }  // SAT-SUN
        guard low <= high else { throw wrong(item, kind, "ends before it begins") }
        return low...high
    }

    private static func value(_ text: Substring, _ kind: Kind, _ item: Substring) throws(ScheduleProblem) -> Int {
        if let place = kind.names.firstIndex(of: text.lowercased()) { return place + kind.range.lowerBound }
        guard text.allSatisfy({ $0.isASCII && $0.isNumber }), let value = Int(text) else {
            let near = Spelling.nearest(text.lowercased(), among: kind.names).map { "; did you mean '\($0)'?" } ?? ""
            throw wrong(item, kind, "is no value or range\(near)")
        }
        guard kind.range.contains(value) else {
            throw wrong(item, kind, "is not from \(kind.range.lowerBound) to \(kind.range.upperBound)")
        }
        return value
    }

    private static func step(_ text: Substring, _ kind: Kind, _ item: Substring) throws(ScheduleProblem) -> Int {
        guard text.allSatisfy({ $0.isASCII && $0.isNumber }), let step = Int(text),
            (1...kind.range.upperBound).contains(step)
        else { throw wrong(item, kind, "has no step from 1 to \(kind.range.upperBound)") }
        return step
    }

    private static func wrong(_ item: Substring, _ kind: Kind, _ why: String) -> ScheduleProblem {
        let examples: [Kind: String] = [
            .minute: "*/5 * * * *", .hour: "0 8-18/2 * * *", .day: "0 0 1,15 * *", .month: "0 0 1 JAN-MAR *",
            .weekday: "0 9 * * MON-FRI",
        ]
        return ScheduleProblem("\(kind.rawValue): '\(item)' \(why)", example: examples[kind] ?? "*/5 * * * *")
    }
}
