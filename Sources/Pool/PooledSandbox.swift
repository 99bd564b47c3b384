// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import NIOCore
import Reclaim
import RuntimeAPI
import Sandbox
import Synchronization
import Units

/// One sandbox with everything that belongs to it: its process, its limits, its Runtime API and its output.
package final class PooledSandbox: Sendable {
    private struct Invocation {
        let requestID: String
        let onEnd: @Sendable (InvocationEnd) -> Void
    }

    private struct State {
        var current: Invocation?
        var initError: (document: ByteBuffer, type: String?)?
        var initTimeout: Duration?
        var hasExited = false
        var lastRequestID: String?
        var isReady = false
        var initDuration: Duration?
    }

    package let id: SandboxID
    package let function: String
    package let sandbox: Sandbox
    package let limits: LimitControl
    package let output: OutputCapture
    private let state = Mutex(State())
    private let createdAt = MonotonicClock.now()
    private let server = Mutex<RuntimeServer?>(nil)
    private let outputWatch = Mutex<EventWatcher.Token?>(nil)
    private let onWaiting: @Sendable (_ isFirst: Bool) -> Void

    init(
        id: SandboxID,
        function: String,
        sandbox: Sandbox,
        limits: LimitControl,
        output: OutputCapture,
        onWaiting: @escaping @Sendable (_ isFirst: Bool) -> Void
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
            state.current = Invocation(requestID: invocation.requestID, onEnd: onEnd)
            state.lastRequestID = invocation.requestID
            return true
        }
        guard accepted, server.withLock({ $0 })?.deliver(invocation) == true else {
            // It ended, or broke the protocol, between the lease and now.
            sandbox.kill()
            return finish(.exited(exitReport(.signaled(9))))
        }
    }

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
        case .waiting:
            let isFirst = state.withLock { state in
                guard !state.isReady else { return false }
                state.isReady = true
                state.initDuration = .nanoseconds(MonotonicClock.now() - createdAt)
                return true
            }
            onWaiting(isFirst)
        case .answered(_, let answer):
            output.drain()
            finish(.answered(answer, InvocationUsage(peak: sandbox.cgroup.memoryPeak(), logTail: output.tail)))
        case .initFailed(let document, let type):
            state.withLock { $0.initError = (document, type) }
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
