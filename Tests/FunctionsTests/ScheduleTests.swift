// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import Functions

/// Milliseconds since 1970 of `2026-11-23 17:05`, UTC.
private func at(_ text: String) -> Int64 {
    let n = text.split { "-: ".contains($0) }.compactMap { Int32($0) }
    var parts = unsafe tm()
    unsafe (parts.tm_year, parts.tm_mon, parts.tm_mday) = (n[0] - 1900, n[1] - 1, n[2])
    unsafe (parts.tm_hour, parts.tm_min) = (n[3], n[4])
    return Int64(unsafe timegm(&parts)) * 1000
}

@Suite("When functions run by themselves")
struct ScheduleTests {
    @Test(
        "the next tick is the first one after now",
        arguments: [
            ("* * * * *", "2026-11-23 17:05", "2026-11-23 17:06"),
            ("*/5 * * * *", "2026-11-23 17:05", "2026-11-23 17:10"),
            ("7-59/10 * * * *", "2026-11-23 17:58", "2026-11-23 18:07"),
            ("0 9-17 * * MON-FRI", "2026-11-20 17:00", "2026-11-23 09:00"),
            ("30 6 * * 7", "2026-11-23 00:00", "2026-11-29 06:30"),
            ("30 6 * * 0", "2026-11-23 00:00", "2026-11-29 06:30"),
            ("0 0 * * SAT-SUN", "2026-11-23 00:00", "2026-11-28 00:00"),
            ("15,45 3 * * *", "2026-11-23 03:15", "2026-11-23 03:45"),
            // Ends of months and years, and leap days.
            ("0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00"),
            ("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59"),
            ("0 0 29 2 *", "2026-11-23 00:00", "2028-02-29 00:00"),
            ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
            ("0 12 1 jan-mar *", "2026-03-01 12:00", "2027-01-01 12:00"),
            // crontab(5): day of the month or day of the week, where both are restricted.
            ("0 0 13 * FRI", "2026-11-10 00:00", "2026-11-13 00:00"),
            ("0 0 13 * FRI", "2026-11-13 00:00", "2026-11-20 00:00"),
            ("0 0 */2 * FRI", "2026-11-13 00:00", "2026-11-27 00:00"),
            ("@hourly", "2026-11-23 17:05", "2026-11-23 18:00"), ("@daily", "2026-11-23 17:05", "2026-11-24 00:00"),
            ("@weekly", "2026-11-23 17:05", "2026-11-29 00:00"), ("@monthly", "2026-11-23 17:05", "2026-12-01 00:00"),
            ("@yearly", "2026-11-23 17:05", "2027-01-01 00:00"),
            ("rate(5 minutes)", "2026-11-23 17:05", "2026-11-23 17:10"),
            ("rate(1 hour)", "2026-11-23 17:05", "2026-11-23 18:00"),
            ("rate(1 day)", "2026-11-23 17:05", "2026-11-24 00:00"),
        ]
    )
    func next(text: String, now: String, expected: String) throws {
        #expect(try ScheduleExpression(text).next(after: at(now)) == at(expected))
    }

    @Test("a tick is a whole minute, and one that is now has been")
    func minutes() throws {
        let every = try ScheduleExpression("* * * * *")
        #expect(every.next(after: 59_999) == 60_000)
        #expect(every.next(after: 60_000) == 120_000)
        #expect(every.next(after: -1) == 0)
        #expect(every.next(after: -60_001) == -60_000)
    }

    @Test(
        "what is wrong is said with what would be right",
        arguments: [
            ("", "0 fields"), ("* * * *", "4 fields"), ("* * * * * *", "6 fields"),
            ("60 * * * *", "minute: '60' is not from 0 to 59"),
            ("* 24 * * *", "hour"), ("* * 0 * *", "day of the month: '0' is not from 1 to 31"), ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"), ("*/0 * * * *", "no step"), ("5/10 * * * *", "a step and no range"),
            ("9-5 * * * *", "ends before it begins"), ("1,,2 * * * *", "no value"), ("-1 * * * *", "no value"),
            ("1-2-3 * * * *", "no value"), ("* * * * MOM", "did you mean 'mon'?"), ("0 0 30 2 *", "never comes"),
            ("0 0 31 4,6 *", "never comes"), ("@reboot", "none of @annually"), ("rate(0 minutes)", "no rate"),
            ("rate(5)", "no rate"), ("rate(2 weeks)", "no rate"), ("cron(0 9 * * ? *)", "not offered"),
            ("+5 * * * *", "no value"), ("٣ * * * *", "no value"), ("rate(9223372036854775807 days)", "no rate"),
        ]
    )
    func problems(text: String, expected: String) {
        let problem = #expect(throws: ScheduleProblem.self) { try ScheduleExpression(text) }
        #expect(problem?.description.contains(expected) == true, "\(problem?.description ?? "")")
        #expect(problem?.description.contains("an example: '") == true)
    }

    @Test("of what was missed the latest tick of the last hour runs, once")
    func missed() throws {
        let (every5, daily) = (try ScheduleExpression("*/5 * * * *"), try ScheduleExpression("0 3 * * *"))
        let now = at("2026-11-23 17:07")
        #expect(every5.due(after: at("2026-11-23 17:05"), now: now) == nil)
        #expect(every5.due(after: at("2026-11-23 17:00"), now: now) == at("2026-11-23 17:05"))
        #expect(every5.due(after: at("2026-11-20 00:00"), now: now) == at("2026-11-23 17:05"))
        #expect(daily.due(after: at("2026-11-22 03:00"), now: now) == nil)
        #expect(daily.due(after: at("2026-11-22 03:00"), now: at("2026-11-23 04:00")) == at("2026-11-23 03:00"))
        #expect(daily.due(after: at("2026-11-22 03:00"), now: at("2026-11-23 04:01")) == nil)
    }

    @Test("a clock that is put back runs nothing again")
    func putBack() throws {
        let every5 = try ScheduleExpression("*/5 * * * *")
        #expect(every5.due(after: at("2026-11-23 17:05"), now: at("2026-11-23 16:31")) == nil)
    }

    @Test("an event's id depends on its function, schedule and minute alone, and is a UUID")
    func ids() {
        let schedule = Schedule(name: "nightly", expression: "0 3 * * *", sinceMs: 1)
        let other = Schedule(name: "nightly", expression: "@daily", sinceMs: 2)
        let id = schedule.eventID(of: "f", tickMs: 120_000)
        #expect(id == other.eventID(of: "f", tickMs: 120_999))
        #expect(id != schedule.eventID(of: "g", tickMs: 120_000) && id != schedule.eventID(of: "f", tickMs: 180_000))
        let parts = id.split(separator: "-")
        #expect(parts.map(\.count) == [8, 4, 4, 4, 12] && parts[2].hasPrefix("8"))
        #expect("89ab".contains(parts[3].first ?? "-"))
    }

    @Test("a random line ticks exactly at the minutes that the kernel's calendar says")
    func bruteForce() throws {
        var random = SplitMix(seed: 7)
        for _ in 0..<80 {
            let fields = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)].map { Field.random($0.0, $0.1, &random) }
            let text = fields.map(\.text).joined(separator: " ")
            guard let expression = try? ScheduleExpression(text) else { continue }
            let start = Int64(random.below(4_000_000_000)) * 1000
            var (ms, ticks) = (start / 60_000 * 60_000 + 60_000, 0)
            var tick = expression.next(after: start)
            // Twelve days, minute by minute.
            for _ in 0..<17_280 where ticks < 200 {
                let matches = Self.matches(fields, ms)
                try #require(matches == (tick == ms), "'\(text)' at \(ms)")
                if matches { (tick, ticks) = (expression.next(after: ms), ticks + 1) }
                ms += 60_000
            }
        }
    }

    /// By `gmtime_r`, which shares nothing with the code under test.
    private static func matches(_ fields: [Field], _ ms: Int64) -> Bool {
        var (seconds, parts) = (time_t(ms / 1000), unsafe tm())
        unsafe gmtime_r(&seconds, &parts)
        let numbers = unsafe [parts.tm_min, parts.tm_hour, parts.tm_mday, parts.tm_mon + 1, parts.tm_wday]
            .map { Int($0) }
        guard fields[0].holds(numbers[0]), fields[1].holds(numbers[1]), fields[3].holds(numbers[3]) else {
            return false
        }
        let day = fields[2].holds(numbers[2])
        let weekday = fields[4].holds(numbers[4]) || numbers[4] == 0 && fields[4].holds(7)
        let bothRestricted = !fields[2].text.hasPrefix("*") && !fields[4].text.hasPrefix("*")
        return bothRestricted ? day || weekday : day && weekday
    }
}

/// One field of a cron line as text, and the values it was made from.
private struct Field {
    var text: String
    var values: Set<Int>

    func holds(_ value: Int) -> Bool { values.contains(value) }

    static func random(_ low: Int, _ high: Int, _ random: inout SplitMix) -> Field {
        switch random.below(4) {
        case 0: return Field(text: "*", values: Set(low...high))
        case 1:
            let step = 1 + random.below(high)
            // A week has seven days: `*` does not count Sunday twice.
            let end = high == 7 ? 6 : high
            return Field(text: "*/\(step)", values: Set(stride(from: low, through: end, by: step)))
        default:
            var field = Field(text: "", values: [])
            for _ in 0...random.below(4) {
                let from = low + random.below(high - low + 1)
                let to = from + random.below(high - from + 1)
                let step = 1 + random.below(high)
                field.text += (field.text.isEmpty ? "" : ",") + "\(from)-\(to)/\(step)"
                field.values.formUnion(stride(from: from, through: to, by: step))
            }
            return field
        }
    }
}

private struct SplitMix {
    var seed: UInt64

    mutating func below(_ bound: Int) -> Int {
        seed &+= 0x9E37_79B9_7F4A_7C15
        var z = seed
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ z >> 31) % UInt64(bound))
    }
}
