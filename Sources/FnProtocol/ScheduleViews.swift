// SPDX-License-Identifier: Apache-2.0

/// A schedule of a function. Times are ISO 8601, in UTC.
package struct ScheduleView: Codable, Sendable, Equatable {
    package var function: String
    package var name: String
    /// As it stands in `function.yaml`.
    package var expression: String
    /// JSON text; absent where the event names the schedule.
    package var input: String?
    /// The next ticks, soonest first.
    package var next: [String]
    /// The latest tick that was accepted, as long as that is known.
    package var last: String?

    package init(function: String, name: String, expression: String, input: String?, next: [String], last: String?) {
        self.function = function
        self.name = name
        self.expression = expression
        self.input = input
        self.next = next
        self.last = last
    }
}

package struct ScheduleList: Codable, Sendable {
    package var schedules: [ScheduleView]
    package init(schedules: [ScheduleView]) { self.schedules = schedules }
}
