// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Functions
import Linux
import Logging
import NIOCore
import NIOPosix
import Settings
import Synchronization
import Units

/// Accepts events for later and runs them until they end: at least once each, in the order in which they are due.
///
/// A function's error is tried again after `defaults.retry_wait`, then after twice that, as often as its retries allow.
/// What could not run at all, for lack of memory or of a free sandbox, is no attempt: it comes again after one second,
/// then two, up to five minutes, until it is too old.
package final class EventRunner: Sendable {
    private struct State {
        var inFlight: [String: Int] = [:]
        var isLooking = false
        var hasNews = false
        var isStopped = false
        var tasks: [RepeatedTask] = []
        var sweptAt: Int64 = 0
        /// When the next event is due: until then nobody has to ask the disk.
        var nextLook: Int64 = 0

        var total: Int { inFlight.values.reduce(0, +) }
    }

    private let queue: EventQueue
    private let dispatcher: Dispatcher
    private let catalog: FunctionCatalog
    private let workers: NIOThreadPool
    private let clock: @Sendable () -> Int64
    private let makeID: @Sendable () -> String
    private let log: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - workers: threads that may block: the queue is on disk.
    ///   - clock: milliseconds since the epoch.
    ///   - makeID: request ids for what destinations are sent.
    package init(
        queue: EventQueue,
        dispatcher: Dispatcher,
        catalog: FunctionCatalog,
        workers: NIOThreadPool,
        clock: @escaping @Sendable () -> Int64,
        makeID: @escaping @Sendable () -> String,
        log: Logger
    ) {
        self.queue = queue
        self.dispatcher = dispatcher
        self.catalog = catalog
        self.workers = workers
        self.clock = clock
        self.makeID = makeID
        self.log = log
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
        event.traceID = request.traceID
        workers.submit { [self, event] _ in
            do throws(FunctionsError) {
                try queue.accept(event, limit: catalog.settings.limits.queue)
                completion(.success(()))
            } catch {
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
        guard state.withLock({ now >= $0.nextLook || now - $0.sweptAt > 60_000 }) else { return }
        workers.submit { [self] _ in look() }
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
            let (room, full) = state.withLock { state in
                state.hasNews = false
                let most = catalog.settings.pools.events
                // Half of it at most for one function, so that a flood leaves room for the others.
                let full = state.inFlight.filter { $0.value >= max(1, most / 2) }.map(\.key)
                return (most - state.total, Set(full))
            }
            do throws(FunctionsError) {
                let next = try queue.nextDue() ?? .max
                state.withLock { $0.nextLook = next }
                // In small bites: what is taken counts before more is taken.
                for event in try queue.claim(now: clock(), limit: min(room, 8), except: full) {
                    state.withLock {
                        $0.inFlight[event.function, default: 0] += 1
                        $0.hasNews = true
                    }
                    run(event)
                }
            } catch {
                log.error("the queue could not be read: \(error)")
            }
        } while state.withLock { state in
            if !state.hasNews || state.isStopped { state.isLooking = false }
            return state.isLooking
        }
    }

    private func run(_ event: QueuedEvent) {
        let handling = handling(event.function)
        guard clock() - event.acceptedMs < handling.maxAge.milliseconds else {
            return end(event, .expired, answer: nil)
        }
        var request = InvocationRequest(
            function: event.function,
            payload: ByteBuffer(bytes: event.payload),
            functionARN: event.arn
        )
        request.clientContext = event.clientContext
        request.traceID = event.traceID
        request.trigger = .async
        dispatcher.invoke(request, requestID: event.id) { [self] result in
            // Its disk writes belong on a worker: this may be an event loop.
            workers.submit { [self] _ in finished(event, result.outcome) }
        }
    }

    /// What a run came to.
    private enum Ending {
        case succeeded
        case failed
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
        case .failure(.throttled(let refusal)): wait(event, refusal.reason)
        case .failure(.cannotStart(let why)): wait(event, why)
        case .failure(.shuttingDown): wait(event, "the daemon was stopped")
        case .failure(.unknownFunction): end(event, .refused("the function was removed"), answer: nil)
        case .failure(.payloadNotJSON(let why)): end(event, .refused("the event is no JSON: \(why)"), answer: nil)
        case .failure(.payloadTooLarge(let limit)):
            end(event, .refused("the event is larger than \(limit)"), answer: nil)
        case .failure(.overCeiling(let what, _, let limit)):
            end(event, .refused("\(what) is above the operator's limit of \(limit)"), answer: nil)
        }
    }

    /// It did not run: later again, and that is no attempt.
    private func wait(_ event: QueuedEvent, _ why: String) {
        var event = event
        event.state = .queued
        event.reason = why
        event.dueMs = clock() + min(300_000, 1000 << min(Int64(event.delays), 9))
        event.delays += 1
        settle(event)
    }

    private func end(_ event: QueuedEvent, _ ending: Ending, answer: ByteBuffer?) {
        let handling = handling(event.function)
        var event = event
        event.delays = 0
        event.result = answer.map { [UInt8]($0.readableBytesView) }
        switch ending {
        case .succeeded:
            event.attempts += 1
            event.state = .succeeded
            event.reason = nil
        case .failed:
            event.attempts += 1
            let pause = handling.wait.milliseconds << Int64(min(event.attempts - 1, 16))
            if event.attempts > handling.retries {
                event.state = .failed
                event.reason = "RetriesExhausted"
            } else {
                event.state = .queued
                event.dueMs = clock() + pause
                event.reason = "the function failed"
            }
        case .expired:
            event.state = .failed
            event.reason = "EventAgeExceeded"
        case .refused(let why):
            event.state = .failed
            event.reason = why
        }
        if event.state != .queued {
            event.finishedMs = clock()
            tellDestination(event, handling)
        }
        settle(event)
    }

    private func settle(_ event: QueuedEvent) {
        do throws(FunctionsError) {
            try queue.settle(event)
        } catch {
            // It stays `running` on disk, and is queued again at the next start: at least once.
            log.error("what became of event \(event.id) could not be written: \(error)")
        }
        state.withLock { state in
            let left = (state.inFlight[event.function] ?? 1) - 1
            state.inFlight[event.function] = left > 0 ? left : nil
        }
        look()
    }

    // MARK: What a function says about its events

    private struct Handling {
        var retries: Int
        var wait: Duration
        var maxAge: Duration
        var onSuccess: String?
        var onFailure: String?
    }

    private func handling(_ name: String) -> Handling {
        let (defaults, own) = (catalog.settings.defaults, catalog[name]?.record.spec.events ?? EventHandling())
        return Handling(
            retries: own.retries ?? defaults.retries,
            wait: defaults.retryWait,
            maxAge: own.maxAgeSeconds.map { .seconds($0) } ?? defaults.maxEventAge,
            onSuccess: own.onSuccess,
            onFailure: own.onFailure
        )
    }

    /// Tells the function that is named for it what became of an event: that is an event too, accepted before this one
    /// is done with.
    private func tellDestination(_ event: QueuedEvent, _ handling: Handling) {
        let isGood = event.state == .succeeded
        guard let name = isGood ? handling.onSuccess : handling.onFailure, let target = catalog[name] else { return }
        let record = DestinationRecord(event, isGood: isGood, now: clock())
        let region = event.arn.split(separator: ":").prefix(6).joined(separator: ":")  // arn:aws:lambda:…:function
        let told = QueuedEvent(
            id: makeID(),
            function: name,
            arn: "\(region):\(target.name)",
            payload: record.json,
            acceptedMs: clock()
        )
        do throws(FunctionsError) {
            try queue.accept(told, limit: catalog.settings.limits.queue)
        } catch {
            log.error("the destination of event \(event.id) could not be told: \(error)")
        }
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

/// What a destination is sent, as Lambda writes it.
private struct DestinationRecord {
    let json: [UInt8]

    init(_ event: QueuedEvent, isGood: Bool, now: Int64) {
        struct Context: Encodable {
            var requestId: String
            var functionArn: String
            var condition: String
            var approximateInvokeCount: Int
        }
        struct Response: Encodable {
            var statusCode = 200
            var executedVersion = "$LATEST"
            var functionError: String?
        }
        struct Head: Encodable {
            var version = "1.0"
            var timestamp: String
            var requestContext: Context
            var responseContext: Response?
        }
        let condition =
            isGood ? "Success" : event.reason == "EventAgeExceeded" ? "EventAgeExceeded" : "RetriesExhausted"
        let head = Head(
            timestamp: WallClock.iso8601(now),
            requestContext: Context(
                requestId: event.id,
                functionArn: event.arn.hasSuffix(":$LATEST") ? event.arn : "\(event.arn):$LATEST",
                condition: condition,
                approximateInvokeCount: event.attempts
            ),
            responseContext: event.result == nil ? nil : Response(functionError: isGood ? nil : "Unhandled")
        )
        // The two payloads are put in as they are: they are JSON already, and nobody has to parse them here.
        var text = (try? JSONEncoder().encode(head)).map { [UInt8]($0) } ?? Array("{}".utf8)
        text.removeLast()
        text += Array(",\"requestPayload\":".utf8) + event.payload
        if let result = event.result, !result.isEmpty { text += Array(",\"responsePayload\":".utf8) + result }
        json = text + Array("}".utf8)
    }
}
