// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOCore
import Policy
import RuntimeAPI
import Sandbox
import Units

/// How a sandbox ends when extensions want to be told before: they are given their last event and a moment.
extension PooledSandbox {
    /// What extensions that are processes of their own have, from the decision to `cgroup.kill`. As in Lambda.
    static let shutdownBudget = Duration.seconds(2)
    /// What a runtime has from its `SIGTERM`, where an extension has registered. As in Lambda.
    static let runtimeBudget = Duration.milliseconds(500)

    /// What is known of an end that was decided.
    struct Ending {
        /// Set once: a sandbox that ends takes no part in anything any more.
        var hasBegun = false
        /// Why it was ended by an extension, and in which words its caller is told.
        var fault: FunctionFault?
        /// How the runtime ended, where extensions outlived it.
        var runtimeStatus: ExitStatus?
        /// What a request is told that was ended for no fault of its own.
        var cause: String?
        /// Until when invocations that were answered have to be over, in the order of their answers.
        var answered: [Instant] = []
        /// What extensions are to be told once the runtime has ended.
        var lastWord: (reason: ShutdownReason, deadlineMs: Int64)?
    }

    /// Ends it: at once, or, where an extension has registered, in Lambda's order: `SIGTERM` for the runtime and
    /// `SIGKILL` after `runtimeBudget`; then `SHUTDOWN` for the extensions that asked for it, and the end of all when they
    /// have done what they wanted, at the latest after `shutdownBudget`. Never blocks. What runs in it is told now that it
    /// has ended.
    ///
    /// - Parameter cause: for requests that run beside the one whose fault it is; one clause.
    package func end(_ reason: ShutdownReason, because cause: String? = nil) {
        let isEnding = state.withLock { state in
            if reason == .timeout { state.hasTimedOut = true }
            state.ending.cause = state.ending.cause ?? cause
            return state.ending.hasBegun
        }
        guard !isEnding else { return }
        let server = server.withLock { $0 }
        guard let server, let loop = loop.withLock({ $0 }), server.hasExtensions else { return kill() }
        let isFirst = state.withLock { state in
            defer { state.ending.hasBegun = true }
            return !state.ending.hasBegun
        }
        guard isFirst else { return }
        output.drain()
        let report = exitReport(.signaled(9))
        onEnding(endCause(report))
        finishAll(.exited(report))
        // A frozen one has to run for it, within the limits that it has: nothing is promised anew for an end.
        guard (try? limits.resume()) != nil else { return kill() }
        telemetry.flush()
        let budget = server.extensionsWantShutdown ? Self.shutdownBudget : Self.runtimeBudget
        loop.scheduleTask(in: .milliseconds(budget.milliseconds)) { [self] in kill() }
        guard server.extensionsWantShutdown else { return sandbox.terminateRuntime() }
        let hasEnded = state.withLock { state in
            state.ending.lastWord = (reason, WallClock.nowMs() + budget.milliseconds)
            return state.ending.runtimeStatus != nil
        }
        if hasEnded { return tellExtensions() }
        sandbox.terminateRuntime()
        loop.scheduleTask(in: .milliseconds(Self.runtimeBudget.milliseconds)) { [self] in
            sandbox.terminateRuntime()  // kills it, the second time
            tellExtensions()
        }
    }

    /// The runtime is out of the way: extensions are given their last event, once.
    private func tellExtensions() {
        let word = state.withLock { state in
            defer { state.ending.lastWord = nil }
            return state.ending.lastWord
        }
        guard let word, let server = server.withLock({ $0 }) else { return }
        if !server.shutDownExtensions(word.reason, deadlineMs: word.deadlineMs) { kill() }
    }

    /// How long the last words of a process that has ended are waited for.
    private static let patience: Instant = 200_000_000

    /// Calls `body` when what the ended process had sent was read: an answer counts, though its sender is gone by the
    /// time that it is seen. Its connections end behind it. Where no request runs there is nothing to wait for.
    func whenHeardOut(_ body: @escaping @Sendable () -> Void) {
        let mayHaveAnswered = state.withLock { !$0.current.isEmpty && !$0.isCondemned }
        guard mayHaveAnswered, let server = server.withLock({ $0 }), let loop = loop.withLock({ $0 }) else {
            return body()
        }
        hearOut(server, loop, until: MonotonicClock.now() + Self.patience, body)
    }

    private func hearOut(
        _ server: RuntimeServer,
        _ loop: any EventLoop,
        until deadline: Instant,
        _ body: @escaping @Sendable () -> Void
    ) {
        guard server.connectionCount > 0, MonotonicClock.now() < deadline else { return body() }
        loop.scheduleTask(in: .milliseconds(1)) { [self] in hearOut(server, loop, until: deadline, body) }
    }

    /// The runtime's process has ended, and process 1 waits for the extensions.
    func runtimeEnded(_ status: Int32) {
        let (isReady, isEnding) = state.withLock { state in
            if state.ending.runtimeStatus == nil {
                state.ending.runtimeStatus = ExitStatus.exited(status).asSeenThroughInit
            }
            return (state.isReady, state.ending.hasBegun)
        }
        if isEnding { return tellExtensions() }
        // A start that failed is told at once.
        if isReady { end(.failure) } else { kill() }
    }

    func extensionFailed(_ fault: FunctionFault) {
        let isReady = state.withLock { state in
            if state.ending.fault == nil { state.ending.fault = fault }
            return state.isReady
        }
        if isReady { end(.failure) } else { kill() }
    }

    /// Whether an invocation was answered, and its runtime or an extension goes on with it beyond its deadline.
    func isOverdue(_ now: Instant) -> Bool {
        state.withLock { !$0.ending.hasBegun && ($0.ending.answered.first.map { $0 < now } ?? false) }
    }
}
