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

/// One sandbox with everything that belongs to it: its process, its limits, its Runtime API and its output.
package final class PooledSandbox: Sendable {
    private struct Invocation {
        let requestID: String
        let began: Int64
        let onEnd: @Sendable (InvocationEnd) -> Void
    }

    /// What the program was told of its limits.
    private struct Told: Equatable {
        var memory: Bytes?
        var cpu: CPUQuota?
        var tmp = Bytes.zero
        var tmpIsPending = false
    }

    /// What has to be compared when a call ends.
    private struct Before {
        var refaults: Int64
    }

    private struct State {
        var current: Invocation?
        var initError: (document: ByteBuffer, type: String?)?
        var initTimeout: Duration?
        var hasExited = false
        var hasTimedOut = false
        var lastRequestID: String?
        var isReady = false
        var initDuration: Duration?
        /// Set while a call runs that woke it.
        var before: Before?
        var call: CallObservation?
        /// How far, and in how many steps, `memory.max` ran ahead for the current call.
        var growth: (steps: Int, limit: Bytes)?
        var workingSet: WorkingSet?
    }

    package let id: SandboxID
    /// The name of its plan.
    package let function: String
    package let sandbox: Sandbox
    package let limits: LimitControl
    package let output: OutputCapture
    private let state = Mutex(State())
    private let createdAt = MonotonicClock.now()
    private let server = Mutex<RuntimeServer?>(nil)
    private let outputWatch = Mutex<EventWatcher.Token?>(nil)
    /// An invocation that the runtime has not been given yet: it was busy answering a hint.
    private let told = Mutex(Told())
    private let undelivered = Mutex<RuntimeInvocation?>(nil)
    private let onWaiting: @Sendable (_ isFirst: Bool, CallObservation?) -> Void

    init(
        id: SandboxID,
        function: String,
        sandbox: Sandbox,
        limits: LimitControl,
        output: OutputCapture,
        onWaiting: @escaping @Sendable (_ isFirst: Bool, CallObservation?) -> Void
    ) {
        self.id = id
        self.function = function
        self.sandbox = sandbox
        self.limits = limits
        self.output = output
        self.onWaiting = onWaiting
    }

    /// From its creation to the first time it asked for work.
    package var initDuration: Duration? { state.withLock { $0.initDuration } }

    /// The request that ran last or runs now.
    package var lastRequestID: String? { state.withLock { $0.lastRequestID } }

    /// Starts to serve the Runtime API to it.
    func serve(group: any EventLoopGroup, answerLimit: Int) -> EventLoopFuture<Void> {
        let server = RuntimeServer { [weak self] in self?.handle($0) }
        self.server.withLock { $0 = server }
        return server.start(on: sandbox.takeRuntimeListener(), group: group, answerLimit: answerLimit)
    }

    func run(_ invocation: RuntimeInvocation, onEnd: @escaping @Sendable (InvocationEnd) -> Void) {
        _ = sandbox.cgroup.resetMemoryPeak()
        let accepted = state.withLock { state in
            guard !state.hasExited else { return false }
            state.current = Invocation(
                requestID: invocation.requestID,
                began: MonotonicClock.now(),
                onEnd: onEnd
            )
            state.lastRequestID = invocation.requestID
            state.growth = nil
            return true
        }
        let server = server.withLock { $0 }
        let isOnItsWay = undelivered.withLock { undelivered in
            guard accepted, let server else { return false }
            if server.deliver(invocation) { return true }
            if server.isHinted {
                undelivered = invocation
                return true
            }
            return server.deliver(invocation)  // it asked for work again between the two looks
        }
        guard isOnItsWay else {
            // It ended, or broke the protocol, between the lease and now.
            sandbox.kill()
            return finish(.exited(exitReport(.signaled(9))))
        }
    }

    /// Gives the runtime what came while it was answering a hint.
    private func deliverLate() {
        undelivered.withLock { undelivered in
            guard let invocation = undelivered, server.withLock({ $0 })?.deliver(invocation) == true else { return }
            undelivered = nil
        }
    }

    // MARK: Giving memory back, and getting it again

    /// Asks the program to give back what it does not need: our own protocol where its runtime speaks it, systemd's
    /// `MEMORY_PRESSURE_WATCH` for everybody. Blocks until it has, at most until `deadline`, and no longer than
    /// `mayGoOn` says. What it gave back is measured by the caller.
    func hint(deadline: Duration, while mayGoOn: () -> Bool) {
        sandbox.control.signalPressure()
        guard let server = server.withLock({ $0 }), server.hintIdle() else { return }
        let end = MonotonicClock.now() + Int64(deadline.seconds * 1e9)
        while server.isHinted, mayGoOn(), MonotonicClock.now() < end { KernelSleep.microseconds(500) }
    }

    /// Called before a shrunk sandbox is thawed.
    func willWake() {
        let refaults = refaults()
        state.withLock { $0.before = Before(refaults: refaults) }
    }

    private func refaults() -> Int64 {
        guard let stat = sandbox.cgroup.memoryStat() else { return 0 }
        // Swapped pages that came back are counted as one or the other, by kernel and kind of swap.
        let anonymous = max(stat["workingset_refault_anon"] ?? 0, (stat["pswpin"] ?? 0) + (stat["zswpin"] ?? 0))
        return anonymous + (stat["workingset_refault_file"] ?? 0)
    }

    /// `memory.max` ran ahead for the call that runs now.
    func noteGrowth(to limit: Bytes) {
        state.withLock { $0.growth = (($0.growth?.steps ?? 0) + 1, limit) }
    }

    /// Remembers which pages are resident now, right after a call that began shrunk.
    func recordWorkingSet() {
        guard let pids = try? sandbox.cgroup.processes() else { return }
        let set = WorkingSet.record(pids)
        state.withLock { $0.workingSet = set }
    }

    /// The function that its plan belongs to.
    var owner: String { PlanName.function(function) }

    package var hasExited: Bool { state.withLock { $0.hasExited } }

    /// Tells the program its limits, where they changed. Before they are lowered, and after they were raised.
    func announce(memory: Bytes? = nil, cpu: CPUQuota? = nil) {
        let changed = told.withLock { told in
            var new = told
            if let memory { new.memory = memory }
            if let cpu { new.cpu = cpu }
            defer { told = new }
            return new != told ? new : nil
        }
        if let changed, let memory = changed.memory {
            sandbox.control.announce(memory: memory, cpu: changed.cpu, tmp: changed.tmp)
        }
    }

    /// Brings `/tmp` to its size; what does not fit is tried again when `retryTmp` is called.
    func setTmp(_ size: Bytes, _ log: Logger) {
        let isNew = told.withLock { told in
            defer { told.tmp = size }
            return told.tmp != size
        }
        guard isNew else { return }
        do {
            let fits = try sandbox.tmp.resize(to: size)
            told.withLock { $0.tmpIsPending = !fits }
            if !fits { log.notice("/tmp of \(id) holds more than \(size.rounded): lowered when it fits") }
        } catch {
            log.warning("/tmp of \(id) could not be resized: \(error)")
        }
    }

    func retryTmp() {
        let wanted = told.withLock { $0.tmpIsPending ? $0.tmp : nil }
        guard let wanted, (try? sandbox.tmp.resize(to: wanted)) == true else { return }
        told.withLock { $0.tmpIsPending = false }
    }

    /// What the last call that began shrunk had needed.
    package var workingSet: WorkingSet? { state.withLock { $0.workingSet } }

    /// Reads its output whenever there is some, on the kernel event thread.
    func watchOutput(_ events: EventWatcher) throws(SyscallError) {
        let token = try output.withPipe { pipe throws(SyscallError) in
            try events.watch(pipe, .readable) { [weak self] in
                guard let self, !output.drain() else { return }
                stopWatchingOutput(events)  // at its end a pipe is readable for ever
            }
        }
        outputWatch.withLock { $0 = token }
    }

    func stopWatchingOutput(_ events: EventWatcher) {
        let token = outputWatch.withLock { watch in
            defer { watch = nil }
            return watch
        }
        if let token { events.cancel(token) }
    }

    /// Ends the process; whatever runs in it is told so.
    package func kill() { sandbox.kill() }

    /// Ends the process because a request in it has had its time.
    package func timeOut() {
        state.withLock { $0.hasTimedOut = true }
        sandbox.kill()
    }

    var hasTimedOut: Bool { state.withLock { $0.hasTimedOut } }

    /// Told by the driver when the sandbox was given too little time to start.
    func noteInitTimeout(_ limit: Duration) { state.withLock { $0.initTimeout = limit } }

    /// The process has ended: ends the invocation in progress, if there is one. Returns the report.
    func exited(_ status: ExitStatus) -> SandboxExit {
        output.drain()  // one drain reads more than a pipe can hold
        let report = exitReport(status)
        state.withLock { $0.hasExited = true }
        server.withLock { $0 }?.close()
        finish(.exited(report))
        return report
    }

    /// Ends all that is left, and waits until the kernel has forgotten it.
    func destroy() throws(SandboxError) {
        server.withLock { $0 }?.close()
        try sandbox.destroy()
        output.close()
    }

    private func handle(_ event: RuntimeEvent) {
        switch event {
        case .waiting(isRepeated: true): deliverLate()
        case .waiting(isRepeated: false):
            let (isFirst, call) = state.withLock { state in
                defer { state.call = nil }
                guard !state.isReady else { return (false, state.call) }
                state.isReady = true
                state.initDuration = .nanoseconds(MonotonicClock.now() - createdAt)
                return (true, nil)
            }
            onWaiting(isFirst, call)
        case .answered(_, let answer):
            output.drain()
            let peak = sandbox.cgroup.memoryPeak()
            observe(peak)
            let growth = state.withLock { $0.growth }
            var usage = InvocationUsage(peak: peak, logTail: output.tail)
            usage.grownTo = growth?.limit
            usage.growthSteps = growth?.steps ?? 0
            finish(.answered(answer, usage))
        case .initFailed(let document, let type):
            state.withLock { $0.initError = (document, type) }
        }
    }

    /// What this call showed of its function; the pool learns it when the runtime asks for more work.
    private func observe(_ peak: Bytes?) {
        let before = state.withLock { $0.before }
        // Only a call that began shrunk can have cost refaults that say something, and only then they are read.
        let refaulted = before.map { max(0, refaults() - $0.refaults) } ?? 0
        let current = before == nil ? nil : sandbox.cgroup.memoryCurrent()
        state.withLock { state in
            guard let began = state.current?.began else { return }
            state.call = CallObservation(
                duration: .nanoseconds(MonotonicClock.now() - began),
                peak: peak,
                refaultedPages: refaulted,
                current: current
            )
            state.before = nil
        }
    }

    private func finish(_ end: InvocationEnd) {
        let current = state.withLock { state in
            defer { state.current = nil }
            return state.current
        }
        current?.onEnd(end)
    }

    private func exitReport(_ status: ExitStatus) -> SandboxExit {
        let events = sandbox.cgroup.memoryEvents()
        let (initError, initTimeout) = state.withLock { ($0.initError, $0.initTimeout) }
        return SandboxExit(
            status: status,
            outOfMemory: (events?.oomKill ?? 0) > 0,
            limit: limits.memoryMax,
            peak: sandbox.cgroup.memoryPeak(),
            logTail: output.tail,
            initError: initError,
            initTimeout: initTimeout
        )
    }
}
