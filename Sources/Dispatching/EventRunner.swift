// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import Logging
import NIOCore
import NIOPosix
import Settings
import Synchronization
import Tracing
import Units

/// Accepts events for later and runs them until they end: at least once each, in the order in which they are due.
///
/// A function's error is tried again after the pauses of `defaults.backoff`, as often as its retries allow.
/// What could not run at all, for lack of memory or of a free sandbox, is no attempt: it comes again after one second,
/// then two, up to five minutes, until it is too old.
package final class EventRunner: Sendable {
    private struct State {
        /// What runs, by function, and what is being carried, by target. A slow address takes no room from functions.
        var inFlight: [EventQueue.Kind: [String: Int]] = [:]
        var isLooking = false
        var hasNews = false
        var isStopped = false
        var tasks: [RepeatedTask] = []
        var sweptAt: Int64 = 0
        /// When the next event is due: until then nobody has to ask the disk.
        var nextLook: Int64 = 0
        /// What has ended and could not be written yet; it counts as in flight until it is.
        var unsettled: [Settlement] = []
        /// What the disk said last, so that it is told once and not at each look.
        var complaint: String?
    }

    /// What became of an event, and what follows from it.
    private struct Settlement {
        var event: QueuedEvent
        var followers: [QueuedEvent]
    }

    /// What is worth counting.
    package enum Note: Sendable {
        case retried
        case givenUp
    }

    private let queue: EventQueue
    private let dispatcher: Dispatcher
    private let catalog: FunctionCatalog
    private let workers: NIOThreadPool
    private let group: any EventLoopGroup
    private let tracer: Tracer?
    private let clock: @Sendable () -> Int64
    private let makeID: @Sendable () -> String
    private let isRegistered: @Sendable (String) -> Bool
    private let log: Logger
    private let onNote: @Sendable (_ function: String, Note) -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - workers: threads that may block: the queue is on disk.
    ///   - clock: milliseconds since the epoch.
    ///   - makeID: request ids for what destinations are sent.
    ///   - isRegistered: whether a function was deployed and not removed, whether it can be run or not.
    ///   - onNote: told what is to be counted.
    package init(
        queue: EventQueue,
        dispatcher: Dispatcher,
        catalog: FunctionCatalog,
        workers: NIOThreadPool,
        group: any EventLoopGroup,
        tracer: Tracer? = nil,
        clock: @escaping @Sendable () -> Int64,
        makeID: @escaping @Sendable () -> String,
        isRegistered: @escaping @Sendable (String) -> Bool = { _ in false },
        log: Logger,
        onNote: @escaping @Sendable (_ function: String, Note) -> Void = { _, _ in }
    ) {
        self.queue = queue
        self.dispatcher = dispatcher
        self.catalog = catalog
        self.workers = workers
        self.group = group
        self.tracer = tracer
        self.clock = clock
        self.makeID = makeID
        self.isRegistered = isRegistered
        self.log = log
        self.onNote = onNote
    }

    // MARK: In

    /// Why an event was not accepted.
    package enum Refusal: Error, Sendable {
        case invalid(InvocationFailure)
        case storage(FunctionsError)
    }

    /// Checks an event and writes it to disk. `completion` is called on a worker, or at once when it is refused.
    package func accept(
        _ request: InvocationRequest,
        requestID: String,
        completion: @escaping @Sendable (Result<Void, Refusal>) -> Void
    ) {
        do throws(InvocationFailure) {
            try dispatcher.check(request, payload: catalog.settings.limits.payloadAsync)
        } catch {
            return completion(.failure(.invalid(error)))
        }
        var event = QueuedEvent(
            id: requestID,
            function: request.function,
            arn: request.functionARN,
            payload: [UInt8](request.payload.readableBytesView),
            acceptedMs: clock()
        )
        event.clientContext = request.clientContext
        (event.memory, event.cpu, event.timeout) = (request.memory, request.cpu, request.timeout)
        event.traceID = request.traceID
        let trace = tracer.flatMap { AcceptanceTrace(request, event, $0) }
        if let place = trace?.context ?? request.trace {
            (event.traceParent, event.traceState) = (place.traceparent, place.state)
        } else if event.traceID == nil {
            event.traceID = TraceContext.untraced(at: clock())  // one for all its attempts
        }
        workers.submit { [self, event] _ in
            do throws(FunctionsError) {
                try queue.accept(event, limit: catalog.settings.limits.queue)
                Failpoint.pass("accepted")
                trace?.end(nil)
                completion(.success(()))
            } catch {
                trace?.end("\(error)")
                completion(.failure(.storage(error)))
            }
            look()
        }
    }

    // MARK: Running

    /// Begins to run what is due.
    package func start(on loop: any EventLoop) {
        let task = loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(200)) { [weak self] _ in
            self?.pokeIfDue()
        }
        state.withLock { $0.tasks = [task] }
    }

    /// Takes nothing more from the queue; what runs is left to end.
    package func stop() {
        let tasks = state.withLock { state in
            state.isStopped = true
            return state.tasks
        }
        for task in tasks { task.cancel() }
    }

    /// Something else may be due now: looks, on this thread.
    package func poke() { look() }

    private func pokeIfDue() {
        let now = clock()
        let isDue = state.withLock { state in
            now >= state.nextLook || now - state.sweptAt > 60_000 || !state.unsettled.isEmpty
        }
        guard isDue else { return }
        workers.submit { [self] _ in
            settleAgain()
            look()
        }
    }

    /// Starts what is due, as much as may run at once. One thread at a time looks; it looks again if asked meanwhile.
    private func look() {
        let mayLook = state.withLock { state in
            state.hasNews = true
            guard !state.isLooking, !state.isStopped else { return false }
            state.isLooking = true
            return true
        }
        guard mayLook else { return }
        repeat {
            sweep()
            state.withLock { $0.hasNews = false }
            do throws(FunctionsError) {
                let next = try queue.nextDue() ?? .max
                state.withLock { $0.nextLook = next }
                for kind in EventQueue.Kind.allCases { try take(kind) }
            } catch {
                complain("the queue cannot be used: \(error)")
                state.withLock { $0.nextLook = clock() + 1000 }
            }
        } while state.withLock { state in
            if !state.hasNews || state.isStopped { state.isLooking = false }
            return state.isLooking
        }
    }

    /// Starts what is due of one kind, as much as there is room for. In small bites: what is taken counts before more is
    /// taken.
    private func take(_ kind: EventQueue.Kind) throws(FunctionsError) {
        let (room, full) = state.withLock { state in
            let most = catalog.settings.pools.events
            // Half of it at most for one function, or target, so that a flood leaves room for the others.
            let counts = state.inFlight[kind, default: [:]]
            let full = counts.filter { $0.value >= max(1, most / 2) }.map(\.key)
            return (most - counts.values.reduce(0, +), Set(full))
        }
        let events = try queue.claim(kind, now: clock(), limit: min(room, 8), except: full)
        if !events.isEmpty { isWell() }
        for event in events {
            state.withLock {
                $0.inFlight[event.kind, default: [:]][event.target ?? event.function, default: 0] += 1
                $0.hasNews = true
            }
            run(event)
        }
    }

    private func run(_ event: QueuedEvent) {
        let maxAge = event.target == nil ? rules(event).maxAge : catalog.settings.defaults.maxEventAge
        guard clock() - event.acceptedMs < maxAge.milliseconds else {
            return end(event, .expired, answer: nil)
        }
        if let target = event.target { return workers.submit { [self] _ in deliver(event, to: target) } }
        var request = InvocationRequest(
            function: event.function,
            payload: ByteBuffer(bytes: event.payload),
            functionARN: event.arn
        )
        request.clientContext = event.clientContext
        (request.memory, request.cpu, request.timeout) = (event.memory, event.cpu, event.timeout)
        request.traceID = event.traceID
        request.trace = event.traceParent.flatMap { TraceContext(traceparent: $0, state: event.traceState) }
        request.attempt = event.attempts + 1
        request.trigger = event.isScheduled ? .schedule : .async
        dispatcher.invoke(request, requestID: event.id) { [self] result in
            // Its disk writes belong on a worker: this may be an event loop.
            workers.submit { [self] _ in
                var event = event
                event.executedVersion = result.version
                finished(event, result.outcome)
            }
        }
    }

    /// What a run came to.
    private enum Ending {
        case succeeded
        /// The function's error: again, or the end of it, as its retries say.
        case failed
        case again(String, Duration)
        case exhausted(String)
        case expired
        case refused(String)
    }

    private func finished(_ event: QueuedEvent, _ outcome: InvocationOutcome) {
        let isStopped = state.withLock { $0.isStopped }
        switch outcome {
        case .success(let body): end(event, .succeeded, answer: body)
        case .failure(.functionError), .failure(.outOfMemory), .failure(.timedOut):
            // While the daemon stops, sandboxes are ended under what runs in them: that is not the function's doing.
            isStopped ? wait(event, "the daemon was stopped") : end(event, .failed, answer: outcome.document)
        // Switched off, by its owner: nothing would come of waiting.
        case .failure(.throttled(.concurrency(limit: 0))):
            end(event, .refused(DestinationRecord.switchedOff), answer: nil)
        case .failure(.throttled(let refusal)): wait(event, refusal.reason)
        case .failure(.cannotStart(let why)): wait(event, why)
        case .failure(.shuttingDown): wait(event, "the daemon was stopped")
        case .failure(.unknownFunction) where isWithoutRuntime(event.function):
            wait(event, "its runtime is not there")
        case .failure(.unknownFunction(let name)):
            end(
                event,
                .refused(name == event.function ? "the function was removed" : "\(name) was removed"),
                answer: nil
            )
        case .failure(.payloadNotJSON(let why)): end(event, .refused("the event is no JSON: \(why)"), answer: nil)
        case .failure(.payloadTooLarge(let limit)):
            end(event, .refused("the event is larger than \(limit)"), answer: nil)
        case .failure(.overCeiling(let what, _, let limit)):
            end(event, .refused("\(what) is above the operator's limit of \(limit)"), answer: nil)
        }
    }

    /// Whether a function is there but for its runtime, which somebody may bring back.
    private func isWithoutRuntime(_ name: String) -> Bool { catalog[name] == nil && isRegistered(name) }

    /// It did not run: later again, and that is no attempt.
    private func wait(_ event: QueuedEvent, _ why: String) {
        var event = event
        event.state = .queued
        event.reason = why
        event.dueMs = clock() + min(300_000, 1000 << min(Int64(event.delays), 9))
        event.delays += 1
        settle(event)
    }

    private func deliver(_ event: QueuedEvent, to target: String) {
        let settings = catalog.settings
        Delivery(settings: settings, group: group)
            .carry(event, to: target) { [self] outcome in
                workers.submit { [self] _ in
                    switch outcome {
                    case .done: end(event, .succeeded, answer: nil)
                    case .refused(let why): end(event, .refused(why), answer: nil)
                    case .failed(let why):
                        let isLast = event.attempts + 1 >= settings.limits.deliveryAttempts
                        let pause = Delivery.pause(after: event.attempts + 1)
                        end(event, isLast ? .exhausted(why) : .again(why, pause), answer: nil)
                    }
                }
            }
    }

    private func end(_ event: QueuedEvent, _ ending: Ending, answer: ByteBuffer?) {
        let rules = rules(event)
        var event = event
        event.delays = 0
        event.result = answer.map { [UInt8]($0.readableBytesView) }
        switch ending {
        case .succeeded:
            event.attempts += 1
            event.state = .succeeded
            event.reason = nil
        case .failed:
            guard event.attempts < rules.retries else {
                return end(event, .exhausted("RetriesExhausted"), answer: answer)
            }
            let pause = rules.pause(before: event.attempts)
            return end(event, .again("the function failed", pause), answer: answer)
        case .again(let why, let pause):
            event.attempts += 1
            event.state = .queued
            event.dueMs = clock() + pause.milliseconds
            event.reason = why
        case .exhausted(let why):
            event.attempts += 1
            event.state = .failed
            event.reason = why
        case .expired:
            event.state = .failed
            event.reason = DestinationRecord.tooOld
        case .refused(let why):
            event.state = .failed
            event.reason = why
        }
        if event.state == .queued { onNote(event.function, .retried) }
        if event.state == .failed { onNote(event.function, .givenUp) }
        guard event.state != .queued else { return settle(event) }
        event.finishedMs = clock()
        settle(event, then: rules.followers(of: event, now: clock(), makeID: makeID))
    }

    private func settle(_ event: QueuedEvent, then followers: [QueuedEvent] = []) {
        let settlement = Settlement(event: event, followers: followers)
        guard write(settlement) else { return state.withLock { $0.unsettled.append(settlement) } }
        look()
    }

    /// `false` when the disk would not have it. A daemon that ends before it does runs the event again: at least once.
    private func write(_ settlement: Settlement) -> Bool {
        let event = settlement.event
        do throws(FunctionsError) {
            try queue.settle(event, then: settlement.followers)
        } catch {
            complain("what became of event \(event.id) cannot be written: \(error)")
            return false
        }
        isWell()
        state.withLock { state in
            let key = event.target ?? event.function
            let left = (state.inFlight[event.kind]?[key] ?? 1) - 1
            state.inFlight[event.kind]?[key] = left > 0 ? left : nil
        }
        return true
    }

    /// What could not be written once more; the rest waits as soon as one does not go.
    private func settleAgain() {
        while let next = state.withLock({ $0.unsettled.popLast() }) {
            guard write(next) else { return state.withLock { $0.unsettled.append(next) } }
        }
    }

    /// Tells what is wrong with the disk, once.
    private func complain(_ what: String) {
        let isNew = state.withLock { state in
            defer { state.complaint = what }
            return state.complaint == nil
        }
        if isNew { log.error("\(what)") }
    }

    private func isWell() {
        let was = state.withLock { state in
            defer { state.complaint = nil }
            return state.complaint
        }
        if was != nil { log.notice("the queue can be written again") }
    }

    private func rules(_ event: QueuedEvent) -> EventRules {
        let handling = catalog.handling(event.function, InvocationRequest.qualifier(event.arn))
        return EventRules(handling, catalog.settings.defaults)
    }

    /// Every minute: answers that were kept long enough go.
    private func sweep() {
        let now = clock()
        let isDue = state.withLock { state in
            guard now - state.sweptAt > 60_000 || now < state.sweptAt else { return false }
            state.sweptAt = now
            return true
        }
        guard isDue else { return }
        try? queue.forget(before: now - catalog.settings.storage.keepResults.milliseconds)
    }
}

extension InvocationOutcome {
    /// The document of an answer or of the function's error.
    fileprivate var document: ByteBuffer? {
        switch self {
        case .success(let body), .failure(.functionError(let body)), .failure(.outOfMemory(let body)),
            .failure(.timedOut(let body)):
            body
        case .failure: nil
        }
    }
}
