// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import Logging
import NIOCore
import NIOPosix
import Settings
import Synchronization

/// Turns ticks of schedules into events, once each: at a tick, at the start for what was missed, and after any step of
/// the clock. A tick is accepted under an id that only depends on what it is the tick of, and together with the mark
/// that it was.
package final class Scheduler: Sendable {
    private struct State {
        var task: RepeatedTask?
        /// The minute since 1970 that was looked at last; `nil` looks again.
        var minute: Int64?
        var isLooking = false
        /// When something could not be accepted: not before this moment again.
        var pausedUntil: Int64 = 0
        var complaint: String?
    }

    /// Milliseconds until what could not be accepted is tried again.
    private static let pause: Int64 = 5000

    private let queue: EventQueue
    private let catalog: FunctionCatalog
    private let workers: NIOThreadPool
    private let clock: @Sendable () -> Int64
    private let arn: @Sendable (String) -> String
    private let onAccept: @Sendable () -> Void
    private let log: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - clock: milliseconds since the epoch.
    ///   - arn: the ARN of a function of that name.
    ///   - onAccept: called on a worker when there is something new in the queue.
    package init(
        queue: EventQueue,
        catalog: FunctionCatalog,
        workers: NIOThreadPool,
        clock: @escaping @Sendable () -> Int64,
        arn: @escaping @Sendable (String) -> String,
        onAccept: @escaping @Sendable () -> Void,
        log: Logger
    ) {
        self.queue = queue
        self.catalog = catalog
        self.workers = workers
        self.clock = clock
        self.arn = arn
        self.onAccept = onAccept
        self.log = log
    }

    /// Begins: ticks are whole minutes, so a look is due whenever the minute is another one.
    package func start(on loop: any EventLoop) {
        let task = loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(500)) { [weak self] _ in
            self?.lookIfDue()
        }
        state.withLock { $0.task = task }
    }

    package func stop() { state.withLock { $0.task }?.cancel() }

    private func lookIfDue() {
        let now = clock()
        let minute = now / 60_000
        let isDue = state.withLock { state in
            let isPaused = (0...Self.pause).contains(state.pausedUntil - now)
            guard state.minute != minute, !state.isLooking, !isPaused else { return false }
            (state.minute, state.isLooking) = (minute, true)
            return true
        }
        guard isDue else { return }
        workers.submit { [self] _ in
            let problem = look(now: clock())
            let isNew = state.withLock { state in
                defer { state.complaint = problem }
                if problem != nil { (state.minute, state.pausedUntil) = (nil, now + Self.pause) }
                state.isLooking = false
                return state.complaint == nil
            }
            if let problem, isNew {
                log.error("a schedule's tick could not be accepted, and is tried again: \(problem)")
            }
        }
    }

    /// Accepts what is due. Blocking.
    ///
    /// - Returns: why something could not be accepted; it is tried again until its tick is an hour old.
    private func look(now: Int64) -> String? {
        let scheduled = catalog.all.filter { !$0.record.spec.schedules.isEmpty }
        guard !scheduled.isEmpty else { return nil }
        do throws(FunctionsError) {
            let ticks = Self.latest(try queue.ticks())
            for function in scheduled {
                for schedule in function.record.spec.schedules {
                    try take(schedule, of: function.name, after: ticks[[function.name, schedule.name]], now: now)
                }
            }
            return nil
        } catch {
            return error.description
        }
    }

    package static func latest(_ ticks: [EventQueue.Tick]) -> [[String]: Int64] {
        Dictionary(ticks.map { ([$0.function, $0.schedule], $0.ms) }) { first, _ in first }
    }

    private func take(_ schedule: Schedule, of function: String, after last: Int64?, now: Int64) throws(FunctionsError)
    {
        guard let expression = try? ScheduleExpression(schedule.expression) else { return }
        // A mark that lies far ahead was made by a clock that has been put right since.
        let mark = last.flatMap { $0 - now > 86_400_000 ? nil : $0 } ?? 0
        guard let tick = expression.due(after: max(mark, schedule.sinceMs), now: now) else { return }
        var event = QueuedEvent(
            id: schedule.eventID(of: function, tickMs: tick),
            function: function,
            arn: arn(function),
            payload: Array((schedule.input ?? ScheduledEvent(schedule.name, of: function, tickMs: tick).json).utf8),
            acceptedMs: now
        )
        event.isScheduled = true
        try queue.accept(
            event,
            limit: catalog.settings.limits.queue,
            tick: EventQueue.Tick(function: function, schedule: schedule.name, ms: tick)
        )
        log.debug(
            "schedule \(schedule.name) of \(function): tick of \(WallClock.iso8601(tick)) accepted as \(event.id)"
        )
        onAccept()
    }
}
