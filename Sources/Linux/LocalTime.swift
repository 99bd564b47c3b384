// SPDX-License-Identifier: Apache-2.0
import Glibc

/// The time of day where this machine is, for people.
package enum LocalTime {
    /// `19:17:00.123`, of milliseconds since the epoch.
    package static func text(_ ms: Int64) -> String {
        var seconds = time_t(ms / 1000)
        var parts = unsafe tm()
        unsafe localtime_r(&seconds, &parts)
        let (hour, minute, second) = unsafe (parts.tm_hour, parts.tm_min, parts.tm_sec)
        let fraction = String(ms % 1000 + 1000).dropFirst()
        return "\(two(hour)):\(two(minute)):\(two(second)).\(fraction)"
    }

    private static func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
