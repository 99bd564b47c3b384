// SPDX-License-Identifier: Apache-2.0

/// What is wrong with a schedule, and what would be right.
package struct ScheduleProblem: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String

    init(_ what: String, example: String = "*/5 * * * *") { description = "\(what); an example: '\(example)'" }
}

/// When something runs, in UTC and whole minutes: a cron line of five fields, one of cron's words, or Lambda's `rate(…)`.
/// Pure: the time comes from the caller, in milliseconds since 1970.
package enum ScheduleExpression: Sendable, Equatable {
    case cron(CronExpression)
    /// Every so many minutes, counted from 1970: the same on each host and after each restart.
    case rate(minutes: Int64)

    private static let words = [
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
    ]

    package init(_ text: String) throws(ScheduleProblem) {
        if text.hasPrefix("rate(") {
            self = .rate(minutes: try Self.rate(text))
        } else if text.hasPrefix("cron(") {
            throw ScheduleProblem("cron(…) with six fields is not offered: write the five fields alone")
        } else if text.hasPrefix("@") {
            guard let line = Self.words[text.lowercased()] else {
                throw ScheduleProblem(
                    "'\(text)' is none of \(Self.words.keys.sorted().joined(separator: ", "))",
                    example: "@hourly"
                )
            }
            self = .cron(try CronExpression(line))
        } else {
            self = .cron(try CronExpression(text))
        }
    }

    private static func rate(_ text: String) throws(ScheduleProblem) -> Int64 {
        let parts = text.dropFirst("rate(".count).dropLast().split(separator: " ")
        let units: [Substring: Int64] = [
            "minute": 1, "minutes": 1, "hour": 60, "hours": 60, "day": 1440, "days": 1440,
        ]
        guard text.hasSuffix(")"), parts.count == 2, let count = Int64(parts[0]), let unit = units[parts[1]],
            (1...527_040).contains(count), count * unit <= 527_040
        else {
            throw ScheduleProblem(
                "'\(text)' is no rate: a whole number from 1 and minutes, hours or days, at most 366 days",
                example: "rate(5 minutes)"
            )
        }
        return count * unit
    }

    /// The first tick after a moment.
    package func next(after ms: Int64) -> Int64 {
        switch self {
        case .cron(let cron): cron.next(after: ms) ?? .max
        case .rate(let minutes): (Civil.floor(ms, minutes * 60_000) + 1) * minutes * 60_000
        }
    }

    /// The tick to run now, if there is one: the latest after `last` that is not older than an hour. Those between are
    /// left out, so that a daemon that was away does not run a day's work at once.
    package func due(after last: Int64, now: Int64) -> Int64? {
        var (found, tick) = (Int64?.none, next(after: max(last, now - 3_600_000 - 1)))
        while tick <= now { (found, tick) = (tick, next(after: tick)) }
        return found
    }
}
