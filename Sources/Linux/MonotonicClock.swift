// SPDX-License-Identifier: Apache-2.0
import Glibc

/// The clock that no administrator can turn.
package enum MonotonicClock {
    /// Nanoseconds since some fixed moment.
    package static func now() -> Int64 { read(CLOCK_MONOTONIC) }

    fileprivate static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// The time of day, for what people and clients read.
package enum WallClock {
    /// Milliseconds since the epoch.
    package static func nowMs() -> Int64 { MonotonicClock.read(CLOCK_REALTIME) / 1_000_000 }

    /// Nanoseconds since the epoch.
    package static func nowNs() -> Int64 { MonotonicClock.read(CLOCK_REALTIME) }

    /// Milliseconds since the epoch of what `iso8601` wrote; `nil` of anything else.
    package static func ms(iso8601 text: String) -> Int64? {
        let numbers = text.split { "-T:.Z".contains($0) }.compactMap { Int64($0) }
        guard numbers.count == 7, text.utf8.count == 24 else { return nil }
        // As below, the other way round.
        let (year, month) = numbers[1] <= 2 ? (numbers[0] - 1, numbers[1] + 9) : (numbers[0], numbers[1] - 3)
        let dayOfYear = (153 * month + 2) / 5 + numbers[2] - 1
        let days = year * 365 + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
        return ((days * 24 + numbers[3]) * 60 + numbers[4]) * 60_000 + numbers[5] * 1000 + numbers[6]
    }

    /// `2026-11-23T19:17:00.123Z`.
    ///
    /// By hand, since every line of a function's log has one. The date is worked out as in Howard Hinnant's "chrono-
    /// compatible low-level date algorithms": days since 1 March of year 0, in eras of 400 years.
    package static func iso8601(_ ms: Int64) -> String {
        let day = Int64(86_400_000)
        let time = ((ms % day) + day) % day
        let shifted = (ms - time) / day + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        var text: [UInt8] = []
        text.reserveCapacity(24)
        func add(_ value: Int64, _ digits: Int64, _ after: Character) {
            var scale = digits
            while scale > 0 {
                text.append(UInt8(ascii: "0") + UInt8(value / scale % 10))
                scale /= 10
            }
            text.append(after.asciiValue ?? 0)
        }
        add(year, 1000, "-")
        add(month, 10, "-")
        add(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1, 10, "T")
        add(time / 3_600_000, 10, ":")
        add(time / 60_000 % 60, 10, ":")
        add(time / 1000 % 60, 10, ".")
        add(time % 1000, 100, "Z")
        return String(decoding: text, as: UTF8.self)
    }
}

/// Sleeping, for the few loops that wait for the kernel with nothing to wait on. Never on an event loop.
package enum KernelSleep {
    package static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
    package static func microseconds(_ count: UInt32) { usleep(count) }
}
