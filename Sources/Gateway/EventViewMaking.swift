// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Functions
import Linux
import Settings
import Units

extension EventHandlingView {
    init(_ events: EventHandling, _ defaults: Settings.Defaults) {
        self.init(
            retries: events.retries ?? defaults.retries,
            maxAgeSeconds: events.maxAgeSeconds.map { Int64($0) } ?? defaults.maxEventAge.milliseconds / 1000,
            onSuccess: events.onSuccess,
            onFailure: events.onFailure,
            deadLetter: events.deadLetter
        )
    }
}

extension GatewayContext {
    /// Every schedule, by function and name. Blocking.
    func schedules() throws(FunctionsError) -> [ScheduleView] {
        let (now, ticks) = (WallClock.nowMs(), Scheduler.latest(try queue.ticks()))
        return catalog.all.flatMap { function in
            function.record.spec.schedules.sorted { $0.name < $1.name }
                .map { schedule in
                    ScheduleView(
                        schedule,
                        of: function.name,
                        last: ticks[[function.name, schedule.name]].flatMap { $0 >= schedule.sinceMs ? $0 : nil },
                        now: now
                    )
                }
        }
    }
}

extension ScheduleView {
    init(_ schedule: Schedule, of function: String, last: Int64? = nil, now: Int64) {
        var (next, tick) = ([String](), now)
        if let expression = try? ScheduleExpression(schedule.expression) {
            while next.count < 3 {
                tick = expression.next(after: tick)
                guard tick < .max else { break }
                next.append(WallClock.iso8601(tick))
            }
        }
        self.init(
            function: function,
            name: schedule.name,
            expression: schedule.expression,
            input: schedule.input,
            next: next,
            last: last.map { WallClock.iso8601($0) }
        )
    }
}

/// The ARN under which events that come from no request run.
package enum FunctionARN {
    package static let account = FunctionReference.account
    package static func make(_ name: String) -> String { FunctionReference.arn(name) }
}
