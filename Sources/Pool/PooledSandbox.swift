// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import Logging
import NIOCore
import Policy
import Reclaim
import RuntimeAPI
import Sandbox
import Synchronization
import Units

/// The name of the plan that a sandbox belongs to: for a prewarmed one another one later.
final class PlanOfSandbox: Sendable {
    let name: Mutex<String>
    init(_ name: String) { self.name = Mutex(name) }
}

/// One sandbox with everything that belongs to it: its process, its limits, its Runtime API and its output.
package final class PooledSandbox: Sendable {
    struct Invocation {
        let requestID: String
        let began: Int64
        /// When it times out.
        let deadline: Instant
        /// Whether nothing else has run beside it: only then what the kernel counted meanwhile is its own.
        var isAlone: Bool
        let onEnd: @Sendable (InvocationEnd) -> Void
    }

    /// What the program was told of its limits.
    struct Told: Equatable {
        var memory: Bytes?
        var cpu: CPUQuota?
        var tmp = Bytes.zero
        var tmpIsPending = false
    }

    /// What has to be compared when a call ends.
    struct Before {
        var refaults: Int64
    }

    struct State {
        /// What runs, by request id.
        var current: [String: Invocation] = [:]
        /// It was started for no function, and became one's.
        var wasPrewarmed = false
        var initError: (document: ByteBuffer, type: String?)?
        var initTimeout: Duration?
        var hasExited = false
        /// It is being killed for the request that runs: whatever it says meanwhile does not count.
        var hasTimedOut = false
        /// It is being killed: what it still says is void, or it would be given work while it dies.
        var isCondemned = false
        var killedAt: Instant?
        var lastRequestID: String?
        var isReady = false
        var initDuration: Duration?
        var readyAt: Instant?
        /// Set while a call runs that woke it.
        var before: Before?
        var call: CallObservation?
        /// How far, and in how many steps, `memory.max` ran ahead for the current call.
        var growth: (steps: Int, limit: Bytes)?
        /// Edits of its limits since the call that runs now began; the first few.
        var resizes: [LimitStep] = []
        var workingSet: WorkingSet?
        var ending = Ending()
    }

    package let id: SandboxID
    private let plan: PlanOfSandbox
    package let sandbox: Sandbox
    package let limits: LimitControl
    package let output: OutputCapture
    /// What extensions print, where they have a pipe of their own.
    let extensionOutput: OutputCapture?
    package let telemetry: TelemetryHub
    let state = Mutex(State())
    /// Since when it is its function's: `created` when it ran, `launched` when that was begun.
    private let began: Mutex<(created: Instant, launched: Instant)>
    private let onRemoval: Mutex<@Sendable () -> Void>
    private let startTimer = Mutex<Scheduled<Void>?>(nil)
    let server = Mutex<RuntimeServer?>(nil)
    /// Where its timers run.
    let loop = Mutex<(any EventLoop)?>(nil)
    private let outputWatches = Mutex<[ObjectIdentifier: EventWatcher.Token]>([:])
    let told = Mutex(Told())
    let live: Mutex<LiveLimits>
    /// An invocation that the runtime has not been given yet: it was busy answering a hint.
    private let undelivered = Mutex<[RuntimeInvocation]>([])
    private let onWaiting: @Sendable (_ isFirst: Bool, CallObservation?) -> Void
    /// Told that it takes no more requests, though it lives on for a moment.
    let onEnding: @Sendable (EndCause) -> Void

    init(
        id: SandboxID,
        plan: PlanOfSandbox,
        sandbox: Sandbox,
        limits: LimitControl,
        live: LiveLimits,
        output: OutputCapture,
        extensionOutput: OutputCapture?,
        telemetry: TelemetryHub,
        launchedAt: Instant,
        onRemoval: @escaping @Sendable () -> Void,
        onEnding: @escaping @Sendable (EndCause) -> Void,
        onWaiting: @escaping @Sendable (_ isFirst: Bool, CallObservation?) -> Void
    ) {
        self.id = id
        self.plan = plan
        self.sandbox = sandbox
        self.limits = limits
        self.live = Mutex(live)
        self.output = output
        self.extensionOutput = extensionOutput
        self.telemetry = telemetry
        began = Mutex((MonotonicClock.now(), launchedAt))
        self.onRemoval = Mutex(onRemoval)
        self.onEnding = onEnding
        self.onWaiting = onWaiting
    }

    /// From its creation to the first time it asked for work.
    package var initDuration: Duration? { state.withLock { $0.initDuration } }

    /// When it was started.
    package var startTimes: StartTimes {
        let (created, launched) = began.withLock { $0 }
        return StartTimes(launch: launched, created: created, ready: state.withLock { $0.readyAt })
    }

    /// Edits of its limits while the present call runs, or until the last one ended.
    package var resizes: [LimitStep] { state.withLock { $0.resizes } }

    /// The request that ran last or runs now.
    package var lastRequestID: String? { state.withLock { $0.lastRequestID } }

    /// Starts to serve the Runtime API to it.
    func serve(
        _ identity: FunctionIdentity?,
        places: Int,
        group: any EventLoopGroup,
        answerLimit: @escaping @Sendable () -> Int
    ) -> EventLoopFuture<Void> {
        let server = RuntimeServer(identity, places: places, telemetry: telemetry) { [weak self] in self?.handle($0) }
        self.server.withLock { $0 = server }
        loop.withLock { $0 = group.next() }
        // It may have ended by now, and then nobody else will close what has only just been made.
        if hasExited { server.close() }
        return server.start(on: sandbox.takeRuntimeListener(), group: group, answerLimit: answerLimit)
    }

    /// The name of its plan.
    package var function: String { plan.name.withLock { $0 } }

    /// It was prewarmed, and is this plan's from now on.
    func become(_ function: String, onRemoval: @escaping @Sendable () -> Void) {
        plan.name.withLock { $0 = function }
        self.onRemoval.withLock { $0 = onRemoval }
        state.withLock { $0.wasPrewarmed = true }
        let now = MonotonicClock.now()
        began.withLock { $0 = (now, now) }
    }

    /// Tells the prewarmed runtime which function it is; `false` when it does not wait to be told.
    func assign(_ identity: FunctionIdentity, environment: [String: String]) -> Bool {
        server.withLock { $0 }?.assign(identity, environment: environment) ?? false
    }

    /// Watches a start; the watch of an earlier one ends.
    func watchStart(_ timer: Scheduled<Void>?) {
        startTimer.withLock { old in
            old?.cancel()
            old = timer
        }
    }

    func run(_ invocation: RuntimeInvocation, onEnd: @escaping @Sendable (InvocationEnd) -> Void) {
        let id = invocation.requestID
        let (accepted, isAlone) = state.withLock { state in
            let now = MonotonicClock.now()
            let isAlone = state.current.isEmpty
            for other in state.current.keys { state.current[other]?.isAlone = false }
            state.current[id] = Invocation(
                requestID: id,
                began: now,
                deadline: now + (invocation.deadlineMs - WallClock.nowMs()) * 1_000_000,
                isAlone: isAlone,
                onEnd: onEnd
            )
            guard !state.hasExited, !state.ending.hasBegun else { return (false, isAlone) }
            state.lastRequestID = id
            if isAlone { (state.growth, state.resizes) = (nil, []) }
            return (true, isAlone)
        }
        guard accepted, let server = server.withLock({ $0 }) else {
            // It ended between the lease and now.
            return finish(id, .exited(exitReport(.signaled(9))))
        }
        // Of several that run at once each is told the highest use since the first of them began: at least its own.
        if isAlone { _ = sandbox.cgroup.resetMemoryPeak() }
        telemetry.invoked(id, traceID: invocation.traceID)
        // Under the lock: a `next` that comes in this moment finds what could not be delivered.
        undelivered.withLock { undelivered in
            if !server.deliver(invocation) { undelivered.append(invocation) }
        }
    }

    /// Gives the runtime what came while it was answering a hint, or while all of its processes were busy.
    private func deliverLate() {
        undelivered.withLock { undelivered in
            while let invocation = undelivered.first, server.withLock({ $0 })?.deliver(invocation) == true {
                undelivered.removeFirst()
            }
        }
    }

    /// The function that its plan belongs to.
    var owner: String { PlanName.function(function) }

    package var hasExited: Bool { state.withLock { $0.hasExited } }

    /// Reads its output whenever there is some, on the kernel event thread.
    func watchOutput(_ events: EventWatcher) throws(SyscallError) {
        for output in outputs {
            let token = try output.withPipe { pipe throws(SyscallError) in
                try events.watch(pipe, .readable) { [weak self] in
                    guard let self, !output.drain(.piece) else { return }
                    stopWatching(output, events)  // at its end a pipe is readable for ever
                }
            }
            outputWatches.withLock { $0[ObjectIdentifier(output)] = token }
        }
    }

    private var outputs: [OutputCapture] { [output] + [extensionOutput].compactMap { $0 } }

    func stopWatchingOutput(_ events: EventWatcher) {
        for output in outputs { stopWatching(output, events) }
    }

    private func stopWatching(_ output: OutputCapture, _ events: EventWatcher) {
        let token = outputWatches.withLock { $0.removeValue(forKey: ObjectIdentifier(output)) }
        if let token { events.cancel(token) }
    }

    /// Ends it because this request has had its time; does nothing once that is answered, since what runs then is
    /// another's.
    package func timeOut(_ requestID: String) {
        let isRunning = state.withLock { state in
            guard state.current[requestID] != nil else { return false }
            state.hasTimedOut = true  // under the lock: no answer counts from here on, and nobody gets the sandbox
            return true
        }
        if isRunning { end(.timeout, because: "another request in the same sandbox timed out (per_sandbox)") }
    }

    /// Ends every process at once; whatever runs in it is told so.
    func kill() {
        state.withLock { state in
            state.isCondemned = true
            state.killedAt = state.killedAt ?? MonotonicClock.now()
        }
        sandbox.kill()
    }

    /// Whether it was killed and goes on for longer than that takes: a process waits inside the kernel, as for a disk that
    /// does not answer, and not even `SIGKILL` reaches it there.
    func isStuck(_ now: Instant) -> Bool {
        state.withLock { state in !state.hasExited && (state.killedAt.map { $0 + Self.killPatience <= now } ?? false) }
    }

    private static let killPatience: Instant = 5_000_000_000

    /// Why it ended, as it is counted.
    func endCause(_ report: SandboxExit) -> EndCause {
        report.outOfMemory ? .oom : state.withLock { $0.hasTimedOut } ? .timeout : .crash
    }

    /// Told by the driver when the sandbox was given too little time to start.
    func noteInitTimeout(_ limit: Duration) { state.withLock { $0.initTimeout = limit } }

    /// The process has ended, or is given up: ends the invocation in progress, if there is one. Returns the report, the
    /// first time.
    func exited(_ status: ExitStatus) -> SandboxExit? {
        let isFirst = state.withLock { state in
            defer { state.hasExited = true }
            return !state.hasExited
        }
        guard isFirst else { return nil }
        for output in outputs { output.drain() }  // one drain reads more than a pipe can hold
        let report = exitReport(status)
        server.withLock { $0 }?.close()
        finishAll(.exited(report))
        telemetry.close()
        return report
    }

    /// Ends all that is left, and waits until the kernel has forgotten it.
    func destroy(patience: Duration) throws(SandboxError) {
        server.withLock { $0 }?.close()
        telemetry.close()
        try sandbox.destroy(patience: patience)
        for output in outputs { output.close() }
    }

    /// Nothing of it is left: what it ran on is free. May block.
    func wasRemoved() { onRemoval.withLock { $0 }() }

    private func handle(_ event: RuntimeEvent) {
        let (isCondemned, isEnding) = state.withLock { ($0.isCondemned, $0.hasTimedOut || $0.ending.hasBegun) }
        guard !isCondemned else { return }
        switch event {
        // What asks for work while it ends gets none, and its end completes what runs in it.
        case .waiting where isEnding, .answered where isEnding: break
        case .waiting(isRepeated: true): deliverLate()
        case .waiting(isRepeated: false):
            let (isFirst, call) = state.withLock { state in
                defer { state.call = nil }
                if !state.ending.answered.isEmpty { state.ending.answered.removeFirst() }
                guard !state.isReady else { return (false, state.call) }
                state.isReady = true
                let now = MonotonicClock.now()
                state.readyAt = now
                state.initDuration = .nanoseconds(now - began.withLock { $0.created })
                return (true, nil)
            }
            deliverLate()
            if isFirst { toldOfStart() }
            onWaiting(isFirst, call)
        case .unassigned: onWaiting(true, nil)
        case .answered(let requestID, let answer):
            output.drain(.pipe)
            let peak = sandbox.cgroup.memoryPeak()
            observe(requestID, peak)
            let growth = state.withLock { state in
                if let deadline = state.current[requestID]?.deadline { state.ending.answered.append(deadline) }
                return state.growth
            }
            var usage = InvocationUsage(peak: peak)
            usage.grownTo = growth?.limit
            usage.growthSteps = growth?.steps ?? 0
            toldOfAnswer(requestID, answer)
            finish(requestID, .answered(answer, usage))
        case .brokeOff(let requestID): brokeOff(requestID)
        case .initFailed(let document, let type):
            state.withLock { $0.initError = (document, type) }
        case .extensionFailed(let type, let reason): extensionFailed(FunctionFault(type: type, reason: reason))
        case .runtimeEnded(let status): runtimeEnded(status)
        case .extensionsDone: telemetry.flush { [self] in kill() }
        }
    }

    /// The runtime lost its connection in the middle of an answer and still runs: it is ended, and so is the call.
    private func brokeOff(_ requestID: String) {
        let isRunning = state.withLock { $0.current[requestID] != nil && !$0.hasExited }
        guard isRunning else { return }
        output.note(
            "RequestId: \(requestID) Error: the runtime closed its connection in the middle of its answer",
            for: requestID
        )
        end(.failure)
    }

    private func finish(_ requestID: String, _ end: InvocationEnd) {
        state.withLock { $0.current.removeValue(forKey: requestID) }?.onEnd(end)
    }

    /// Ends everything that runs.
    func finishAll(_ end: InvocationEnd) {
        let all = state.withLock { state in
            defer { state.current = [:] }
            return state.current.values.map { $0 }
        }
        for invocation in all {
            if case .exited(let report) = end { toldOfEnd(invocation, report) }
            invocation.onEnd(end)
        }
    }

    func exitReport(_ status: ExitStatus) -> SandboxExit {
        let events = sandbox.cgroup.memoryEvents()
        let (initError, initTimeout, ending, wasPrewarmed) = state.withLock {
            ($0.initError, $0.initTimeout, $0.ending, $0.wasPrewarmed)
        }
        return SandboxExit(
            status: ending.runtimeStatus ?? status,
            outOfMemory: (events?.oomKill ?? 0) > 0,
            limit: limits.memoryMax,
            peak: sandbox.cgroup.memoryPeak(),
            logTail: output.tail,
            initError: initError,
            initTimeout: initTimeout,
            fault: ending.fault,
            start: startTimes,
            startKind: wasPrewarmed ? .prewarmed : .cold,
            cause: ending.cause
        )
    }
}
