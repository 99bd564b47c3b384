// SPDX-License-Identifier: Apache-2.0

/// Five fields, as crontab(5) has them: minute, hour, day of the month, month, day of the week.
package struct CronExpression: Sendable, Equatable {
    private let minutes: CronField
    private let hours: CronField
    private let days: CronField
    private let months: CronField
    private let weekdays: CronField

    package init(_ text: String) throws(ScheduleProblem) {
        let fields = text.split { $0 == " " || $0 == "\t" }.map(String.init)
        guard fields.count == 5 else {
            throw ScheduleProblem(
                "'\(text)' has \(fields.count) fields, not 5: minute, hour, day of the month, month, day of the week"
            )
        }
        minutes = try CronField(fields[0], .minute)
        hours = try CronField(fields[1], .hour)
        days = try CronField(fields[2], .day)
        months = try CronField(fields[3], .month)
        weekdays = try CronField(fields[4], .weekday)
        guard next(after: 0) != nil else {
            throw ScheduleProblem("'\(text)' never comes: no such month has that day", example: "0 0 28 2 *")
        }
    }

    /// A leap day that has to be a certain weekday comes again after 40 years at the latest, across a year like 2100.
    private static let horizon: Int64 = 41 * 366

    /// The first matching minute after a moment, both in milliseconds since 1970, UTC.
    package func next(after ms: Int64) -> Int64? {
        let first = Civil.floor(ms, 60_000) + 1
        let today = Civil.floor(first, 1440)
        for day in today...(today + Self.horizon) where matches(day) {
            let start = day == today ? Int(first - day * 1440) : 0
            if let minute = minuteOfDay(from: start) { return (day * 1440 + Int64(minute)) * 60_000 }
        }
        return nil
    }

    private func minuteOfDay(from start: Int) -> Int? {
        for hour in (start / 60)..<24 where hours.contains(hour) {
            let from = hour == start / 60 ? start % 60 : 0
            if let minute = (from..<60).first(where: minutes.contains) { return hour * 60 + minute }
        }
        return nil
    }

    /// - Parameter day: days since 1970.
    private func matches(_ day: Int64) -> Bool {
        let date = Civil(day: day)
        guard months.contains(date.month) else { return false }
        let (isDay, isWeekday) = (days.contains(date.day), weekdays.contains(date.weekday))
        // crontab(5): where both are restricted, either will do.
        return days.isRestricted && weekdays.isRestricted ? isDay || isWeekday : isDay && isWeekday
    }
}

/// A date of the Gregorian calendar in UTC.
struct Civil: Equatable {
    var year: Int64
    var month: Int
    var day: Int
    /// 0 is Sunday.
    var weekday: Int

    /// Works in eras of 400 years that begin on the first of March, so that the leap day is the last of its year.
    ///
    /// - Parameter day: days since 1970-01-01.
    init(day: Int64) {
        let shifted = day + 719_468
        let era = Self.floor(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        self.day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
        month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        weekday = Int(day + 4 - Self.floor(day + 4, 7) * 7)
    }

    /// Division that rounds down, before 1970 too.
    static func floor(_ value: Int64, _ divisor: Int64) -> Int64 {
        value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor)
    }
}
