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

    /// `2026-11-23T19:17:00.123Z`.
    package static func iso8601(_ ms: Int64) -> String {
        var seconds = time_t(ms / 1000)
        var parts = unsafe tm()
        unsafe gmtime_r(&seconds, &parts)
        func two(_ n: CInt) -> String { n < 10 ? "0\(n)" : "\(n)" }
        let fraction = String(String(1000 + ms % 1000).dropFirst())
        let day = unsafe "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
        return unsafe "\(day)T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)Z"
    }
}

/// Sleeping, for the few loops that wait for the kernel with nothing to wait on. Never on an event loop.
package enum KernelSleep {
    package static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
    package static func microseconds(_ count: UInt32) { usleep(count) }
}
