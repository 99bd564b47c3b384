// SPDX-License-Identifier: Apache-2.0
import Linux
import Logging
import NIOCore
import NIOPosix
import Reclaim
import Sandbox
import Synchronization
import Units

/// Makes one sandbox for a function; blocking. Given to the pool by whoever knows what is deployed.
package typealias SandboxFactory =
    @Sendable (_ id: SandboxID, _ function: String, _ contract: Bytes) throws -> FactoryResult

/// A sandbox that runs, and what the pool needs to know to keep it.
package struct FactoryResult: Sendable {
    package var sandbox: Sandbox
    package var cpu: CPUQuota?
    package var initTimeout: Duration
    package var answerLimit: Int

    package init(sandbox: Sandbox, cpu: CPUQuota?, initTimeout: Duration, answerLimit: Int) {
        self.sandbox = sandbox
        self.cpu = cpu
        self.initTimeout = initTimeout
        self.answerLimit = answerLimit
    }
}

/// The pool at work: asks `PoolState` what to do, and does it outside the lock.
///
/// Threads: events come from event loops and the kernel's event thread; starts, stops and everything that may block run
/// on `workers`; shrinks run on a thread of their own with a low priority, so that giving memory back takes
/// little processor time from requests.
package final class SandboxPool: Sendable {
    struct Shared {
        var state: PoolState
        var members: [SandboxID: PooledSandbox] = [:]
        var callers: [LeaseToken: @Sendable (LeaseOutcome) -> Void] = [:]
        var failures: [SandboxID: LeaseOutcome] = [:]
        var cpuOverrides: [LeaseToken: CPUQuota] = [:]
        var nextToken: LeaseToken = 0
    }

    let shared: Mutex<Shared>
    let group: any EventLoopGroup
    let workers: NIOThreadPool
    let reclaimers: NIOThreadPool
    let events: EventWatcher
    let factory: SandboxFactory
    let sink: @Sendable (_ function: String, SandboxID, OutputLine) -> Void
    let swappiness: Int?
    let cpus: Int
    let log: Logger
    private let ticker = Mutex<RepeatedTask?>(nil)

    /// - Parameters:
    ///   - workers: threads that may block; started and stopped by the caller.
    ///   - reclaimers: threads for shrinks; started and stopped by the caller.
    ///   - sink: told every line that a sandbox prints.
    package init(
        state: PoolState,
        group: any EventLoopGroup,
        workers: NIOThreadPool,
        reclaimers: NIOThreadPool,
        events: EventWatcher,
        cpus: Int,
        swappiness: Int? = 200,
        log: Logger,
        factory: @escaping SandboxFactory,
        sink: @escaping @Sendable (_ function: String, SandboxID, OutputLine) -> Void
    ) {
        shared = Mutex(Shared(state: state))
        self.group = group
        self.workers = workers
        self.reclaimers = reclaimers
        self.events = events
        self.cpus = cpus
        self.swappiness = swappiness
        self.log = log
        self.factory = factory
        self.sink = sink
    }

    /// Starts the clock: what is due by time is looked at ten times a second.
    package func start() {
        let task = group.next()
            .scheduleRepeatedTask(initialDelay: .milliseconds(100), delay: .milliseconds(100)) { _ in
                self.apply { state, now in state.tick(now: now) }
            }
        ticker.withLock { $0 = task }
    }

    // MARK: Requests

    /// Asks for a sandbox. `onOutcome` is called once: on this thread, an event loop or a worker.
    ///
    /// - Returns: the token with which the wish can be withdrawn.
    @discardableResult
    package func lease(
        _ function: String,
        memory: Bytes?,
        cpu: CPUQuota?,
        fresh: Bool,
        giveUpAfter: Duration,
        onOutcome: @escaping @Sendable (LeaseOutcome) -> Void
    ) -> LeaseToken {
        let now = MonotonicClock.now()
        let (token, effects) = shared.withLock { shared in
            shared.nextToken += 1
            let token = shared.nextToken
            shared.callers[token] = onOutcome
            if let cpu { shared.cpuOverrides[token] = cpu }
            let request = LeaseRequest(
                token: token,
                function: function,
                memory: memory,
                fresh: fresh,
                giveUpAt: now + Int64(giveUpAfter.seconds * 1e9)
            )
            return (token, shared.state.lease(request, now: now))
        }
        perform(effects)
        return token
    }

    /// The caller has gone. A request that waits leaves the queue; one that runs is not touched.
    package func cancel(_ token: LeaseToken) {
        shared.withLock { shared in
            shared.state.cancel(token)
            shared.callers[token] = nil
            shared.cpuOverrides[token] = nil
        }
    }

    // MARK: The operator's hand

    /// A function was deployed or changed.
    package func setPlan(_ plan: FunctionPlan) {
        apply { state, now in state.setPlan(plan, now: now) }
        for member in members(of: plan.name) {
            do {
                try member.limits.setCPU(plan.cpu)
            } catch {
                log.warning("cpu.max of \(member.id) could not be written: \(error)")
            }
        }
    }

    package func removePlan(_ name: String) { apply { state, now in state.removePlan(name, now: now) } }
    package func setBudget(_ budget: Bytes) { apply { state, now in state.setBudget(budget, now: now) } }
    package func setLimits(_ limits: PoolLimits) {
        apply { state, _ in
            state.limits = limits
            return []
        }
    }

    /// Refuses new requests, waits up to `patience` for running ones, then ends everything; blocking.
    package func shutdown(patience: Duration) {
        apply { state, now in state.shutdown(now: now) }
        let deadline = MonotonicClock.now() + Int64(patience.seconds * 1e9)
        waitUntilEmpty(deadline)
        apply { state, _ in state.stopEverything() }
        waitUntilEmpty(MonotonicClock.now() + 10_000_000_000)
        ticker.withLock { $0 }?.cancel()
    }

    private func waitUntilEmpty(_ deadline: Instant) {
        while MonotonicClock.now() < deadline, shared.withLock({ !$0.state.entries.isEmpty }) {
            KernelSleep.milliseconds(5)
        }
    }

    private func members(of function: String) -> [PooledSandbox] {
        shared.withLock { $0.members.values.filter { $0.function == function } }
    }

    // MARK: State and effects

    /// Feeds an event to the state and performs what follows, outside the lock.
    func apply(_ event: (inout PoolState, Instant) -> [PoolEffect]) {
        let now = MonotonicClock.now()
        perform(shared.withLock { event(&$0.state, now) })
    }

    func caller(_ token: LeaseToken) -> (@Sendable (LeaseOutcome) -> Void)? {
        shared.withLock { $0.callers.removeValue(forKey: token) }
    }
}

/// What the doors show of the pool.
extension SandboxPool {
    /// Every sandbox: the pool's entry, what the ledger has promised it, and the sandbox itself once it runs.
    package func snapshot() -> [(PoolState.Entry, Bytes, PooledSandbox?)] {
        shared.withLock { shared in
            shared.state.entries.values.map { ($0, shared.state.ledger.held(by: $0.id), shared.members[$0.id]) }
        }
    }

    /// Sandboxes of a function whose size is meant to be another one.
    package func pending(_ function: String) -> [(id: SandboxID, held: Bytes, wanted: Bytes)] {
        shared.withLock { shared in
            shared.state.entries.values.compactMap { entry in
                guard entry.function == function, entry.phase != .stopping, let wanted = entry.pending else {
                    return nil
                }
                return (entry.id, shared.state.ledger.held(by: entry.id), wanted)
            }
        }
    }

    package func count(of function: String) -> Int { shared.withLock { $0.state.live(function) } }
    package var ledger: Ledger<SandboxID> { shared.withLock { $0.state.ledger } }
}
