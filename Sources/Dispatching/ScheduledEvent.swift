// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Linux

/// What a function is given whose schedule names no input.
struct ScheduledEvent {
    let json: String

    init(_ schedule: String, of function: String, tickMs: Int64) {
        struct Members: Encodable {
            var source = "ebb.schedule"
            var time: String
            var function: String
            var schedule: String
        }
        let members = Members(time: WallClock.iso8601(tickMs), function: function, schedule: schedule)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings alone: encoding them cannot fail.
        json = (try? encoder.encode(members)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
