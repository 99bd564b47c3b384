// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import Pool
import Reclaim
import Synchronization
import Tracing
import Units

/// One traced invocation: notes when what happened, and makes spans of it when it has ended.
///
/// `invoke NAME` from the request to the answer; below it `queue`, `cold_start` with `launch` and `init`, `grow`,
/// `thaw`, `resize`, and `run` with the `resize`s meanwhile. There is none for what is not recorded.
final class InvocationTrace: Sendable {
    private struct Marks {
        /// When it had its sandbox, or was told that there is none.
        var granted: Int64?
        var steps: [LimitStep] = []
        var sandbox: String?
        var start: StartTimes?
        var startFailed = false
        var runBegan: Int64?
        var resizes: [LimitStep] = []
    }

    /// Its own place, below which the rest is.
    let context: TraceContext
    /// The place of `run`: what the function is told to put its own spans below.
    let runContext: TraceContext
    /// The caller's.
    private let parent: SpanID?
    private let function: String
    private let trigger: Trigger
    private let http: HTTPOrigin?
    private let attempt: Int?
    private let began = MonotonicClock.now()
    private let marks = Mutex(Marks())

    init(_ context: TraceContext, of request: InvocationRequest, _ function: String) {
        (self.context, parent, self.function) = (context, request.trace?.span, function)
        (trigger, http, attempt) = (request.trigger, request.http, request.attempt)
        var run = context
        run.span = .random()
        runContext = run
    }

    func granted(_ lease: Lease) {
        let start = lease.start == .cold ? lease.sandbox.startTimes : nil
        marks.withLock { marks in
            marks.granted = MonotonicClock.now()
            (marks.steps, marks.start) = (lease.steps, start)
            marks.sandbox = lease.sandbox.id.description
        }
    }

    func refused(_ exit: SandboxExit? = nil) {
        marks.withLock { marks in
            marks.granted = MonotonicClock.now()
            (marks.start, marks.startFailed) = (exit?.start, exit != nil)
        }
    }

    func runs() { marks.withLock { $0.runBegan = MonotonicClock.now() } }

    func ran(_ lease: Lease) {
        let resizes = lease.sandbox.resizes
        marks.withLock { $0.resizes = resizes }
    }

    // MARK: The end

    func spans(_ result: InvocationResult, ended now: Int64) -> [Span] {
        let marks = marks.withLock { $0 }
        var spans = [root(result, marks, ended: now)]
        let granted = marks.granted ?? now
        // What was started for somebody else before this request came is not its own time.
        let start = marks.start.map { (max(began, $0.launch), min($0.ready ?? granted, granted)) }
        let firstStep = marks.steps.first?.began ?? granted
        spans.append(child("queue", began, max(began, min(start?.0 ?? firstStep, granted))))
        if let start, let times = marks.start, start.1 > start.0 {
            spans += coldStart(times, start.0, start.1, failed: marks.startFailed)
        }
        for step in marks.steps { spans.append(limit(step, below: context)) }
        if let runBegan = marks.runBegan {
            var run = child("run", runBegan, now)
            run.context = runContext
            run.error = result.outcome.error
            spans.append(run)
            for step in marks.resizes where step.began >= runBegan && step.ended <= now {
                spans.append(limit(step, below: runContext))
            }
        }
        return spans
    }

    private func child(_ name: String, _ began: Int64, _ ended: Int64, below: TraceContext? = nil) -> Span {
        let place = below ?? context
        var own = place
        own.span = .random()
        return Span(name, context: own, parent: place.span, began: began, ended: ended)
    }

    private func coldStart(_ times: StartTimes, _ began: Int64, _ ended: Int64, failed: Bool) -> [Span] {
        var whole = child("cold_start", began, ended)
        let created = min(max(times.created, began), ended)
        let launch = child("launch", began, created, below: whole.context)
        var start = child("init", created, ended, below: whole.context)
        if failed { (whole.error, start.error) = ("the sandbox ended while it started", "the runtime ended") }
        return [whole, launch, start]
    }

    private func limit(_ step: LimitStep, below place: TraceContext) -> Span {
        var span = child(step.kind.rawValue, step.began, step.ended, below: place)
        span.set("ebb.memory.limit.before", step.from?.count)
        span.set("ebb.memory.limit", step.to?.count)
        return span
    }

    private func root(_ result: InvocationResult, _ marks: Marks, ended: Int64) -> Span {
        var span = Span(
            "invoke \(function)",
            trigger == .async ? .consumer : .server,
            context: context,
            parent: parent,
            began: began,
            ended: ended
        )
        span.set("faas.name", function)
        span.set("faas.version", result.version)
        span.set("faas.trigger", trigger.faas)
        span.set("faas.invocation_id", result.requestID)
        span.set("faas.coldstart", result.start == .cold)
        span.set("faas.instance", marks.sandbox)
        span.set("faas.max_memory", result.contract?.count)
        span.set("ebb.start", result.start?.rawValue)
        span.set("ebb.outcome", result.outcome.word)
        span.set("ebb.memory.limit", (result.grownTo ?? result.contract)?.count)
        span.set("ebb.memory.peak", result.peak?.count)
        span.set("ebb.attempt", attempt.map { Int64($0) })
        if let http {
            span.set("http.request.method", http.method)
            span.set("http.route", http.route)
            span.set("url.path", http.path)
            span.set("url.scheme", http.scheme)
            span.set("user_agent.original", http.userAgent)
            span.set("http.response.status_code", http.status(result).map { Int64($0) })
        }
        if let error = result.outcome.error {
            span.set("error.type", result.outcome.word)
            span.error = error
        }
        return span
    }
}

extension Trigger {
    /// As OpenTelemetry names it.
    fileprivate var faas: String {
        switch self {
        case .http, .url: "http"
        case .async: "pubsub"
        case .schedule: "timer"
        }
    }
}

/// The HTTP request that an invocation came in, for its trace.
package final class HTTPOrigin: Sendable {
    let method: String
    /// With the variable parts as they are named in `openapi.yaml`.
    let route: String
    let path: String
    let scheme: String
    let userAgent: String?
    /// What the door answers to a result; `nil` where it cannot be told any more.
    let status: @Sendable (InvocationResult) -> Int?

    package init(
        method: String,
        route: String,
        path: String,
        scheme: String,
        userAgent: String?,
        status: @escaping @Sendable (InvocationResult) -> Int?
    ) {
        (self.method, self.route, self.path, self.scheme) = (method, route, path, scheme)
        (self.userAgent, self.status) = (userAgent, status)
    }
}

extension InvocationOutcome {
    /// One word, as in the `outcome` label of metrics.
    package var word: String {
        switch self {
        case .success: "ok"
        case .failure(.functionError): "function_error"
        case .failure(.outOfMemory): "oom"
        case .failure(.timedOut): "timeout"
        case .failure(.throttled): "throttled"
        case .failure(.cannotStart), .failure(.shuttingDown): "internal"
        case .failure: "invalid"
        }
    }

    /// Why it failed, without what the function said: that may be anybody's data. `nil` where the function and the
    /// daemon did what they should.
    var error: String? {
        switch self {
        case .success: nil
        case .failure(.functionError): "the function raised an error"
        case .failure(.outOfMemory): "the function ran out of memory"
        case .failure(.timedOut): "the function timed out"
        case .failure(.throttled(let refusal)): refusal.reason
        case .failure(.cannotStart(let why)): why
        case .failure(.shuttingDown): "the daemon is stopping"
        case .failure: nil
        }
    }
}
