// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import Logging
import NIOCore
import NIOPosix
import Policy
import Reclaim
import RuntimeAPI
import Sandbox
import Synchronization
import Units

/// Makes sandboxes for plans, by their names; blocking. Given to the pool by whoever knows what is deployed.
package struct SandboxFactory: Sendable {
    package var start:
        @Sendable (_ id: SandboxID, _ plan: String, _ contract: Bytes, _ isProvisioned: Bool) throws -> FactoryResult
    /// Gives a prewarmed sandbox, which is frozen or waits, the files and limits of a plan; all but what the pool edits.
    package var assign: @Sendable (_ sandbox: Sandbox, _ id: SandboxID, _ plan: String) throws -> Assignment

    package init(
        start: @escaping @Sendable (SandboxID, String, Bytes, Bool) throws -> FactoryResult,
        assign: @escaping @Sendable (Sandbox, SandboxID, String) throws -> Assignment
    ) {
        self.start = start
        self.assign = assign
    }
}

/// What a prewarmed sandbox needs to know to be a function's.
package struct Assignment: Sendable {
    package var identity: FunctionIdentity
    package var environment: [String: String]
    package var cpu: CPUQuota?
    /// What the function is told that it may use: while it starts, it may use more.
    package var announcedCPU: CPUQuota?
    package var live: LiveLimits
    package var initTimeout: Duration
    /// Called when nothing of the sandbox is left; may block.
    package var onRemoval: @Sendable () -> Void

    package init(
        identity: FunctionIdentity,
        environment: [String: String],
        cpu: CPUQuota?,
        announcedCPU: CPUQuota?,
        live: LiveLimits,
        initTimeout: Duration,
        onRemoval: @escaping @Sendable () -> Void
    ) {
        self.onRemoval = onRemoval
        self.identity = identity
        self.environment = environment
        self.cpu = cpu
        self.announcedCPU = announcedCPU
        self.live = live
        self.initTimeout = initTimeout
    }
}

/// A sandbox that runs, and what the pool needs to know to keep it.
package struct FactoryResult: Sendable {
    package var sandbox: Sandbox
    package var cpu: CPUQuota?
    package var initTimeout: Duration
    /// The largest answer that is in force, in bytes.
    package var answerLimit: @Sendable () -> Int
    /// As it was started with.
    package var live: LiveLimits
    /// What its extensions are told of the function; `nil` for a prewarmed one, which is no function's yet.
    package var identity: FunctionIdentity?
    /// Requests that it runs at once.
    package var places: Int
    /// Called when nothing of the sandbox is left; may block.
    package var onRemoval: @Sendable () -> Void = {}

    /// - Parameter cpu: `cpu.max` as it was started with.
    package init(
        sandbox: Sandbox,
        cpu: CPUQuota?,
        initTimeout: Duration,
        answerLimit: @escaping @Sendable () -> Int,
        live: LiveLimits,
        identity: FunctionIdentity?,
        places: Int
    ) {
        self.live = live
        self.identity = identity
        self.places = places
        self.sandbox = sandbox
        self.cpu = cpu
        self.initTimeout = initTimeout
        self.answerLimit = answerLimit
    }
}

/// Limits of a living sandbox that are edited without a decision: nothing of the host's budget depends on them.
package struct LiveLimits: Sendable, Equatable {
    /// The size of `/tmp`, whose pages count as the sandbox's memory.
    package var tmp: Bytes
    package var io: IOLimits
    package var ioWeight: Int
    /// `memory.swap.max`.
    package var swap: Bytes
    /// `memory.high` while it runs; `nil` is `max`.
    package var high: Bytes?
    package var cpuWeight: Int
    /// Processes and threads.
    package var pids: Int

    package init(
        tmp: Bytes,
        io: IOLimits,
        ioWeight: Int = 100,
        swap: Bytes,
        high: Bytes? = nil,
        cpuWeight: Int,
        pids: Int
    ) {
        self.tmp = tmp
        self.io = io
        self.ioWeight = ioWeight
        self.high = high
        self.swap = swap
        self.cpuWeight = cpuWeight
        self.pids = pids
    }
}

/// How the pool keeps time, from the `reclaim` section of `fn.yaml`.
package struct PoolPace: Sendable {
    /// How often the host is looked at.
    package var interval: Duration
    /// Over how long stalls are averaged.
    package var stallWindow: Duration
    /// How long a runtime has to answer a hint.
    package var hintTimeout: Duration

    package init(
        interval: Duration = .milliseconds(250),
        stallWindow: Duration = .milliseconds(250),
        hintTimeout: Duration = .milliseconds(100)
    ) {
        self.interval = interval
        self.stallWindow = stallWindow
        self.hintTimeout = hintTimeout
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
        /// Limits that the pool's decisions do not depend on, by function.
        var live: [String: LiveLimits] = [:]
        /// What the kernel had counted for sandboxes that are gone, by function.
        var retired: [String: KernelCounters] = [:]
    }

    let shared: Mutex<Shared>
    let group: any EventLoopGroup
    let workers: NIOThreadPool
    let reclaimers: NIOThreadPool
    let events: EventWatcher
    let factory: SandboxFactory
    let sink: @Sendable (_ function: String, SandboxID, OutputLine) -> Void
    let cpus: Int
    let log: Logger
    let sensors: HostSensors
    let devices: [BlockDevice]
    let pace = Mutex(PoolPace())
    let sensing = Mutex(Sensing())
    private let onDecisions: @Sendable ([Decision]) -> Void

    /// - Parameters:
    ///   - workers: threads that may block; started and stopped by the caller.
    ///   - reclaimers: threads for shrinks; started and stopped by the caller.
    ///   - devices: the disks that `io.max` is for.
    ///   - sink: told every line that a sandbox prints.
    ///   - onDecisions: told what was decided and why, in order, under the pool's lock: must return at once.
    package init(
        state: PoolState,
        group: any EventLoopGroup,
        workers: NIOThreadPool,
        reclaimers: NIOThreadPool,
        events: EventWatcher,
        cpus: Int,
        devices: [BlockDevice] = [],
        log: Logger,
        factory: SandboxFactory,
        sink: @escaping @Sendable (_ function: String, SandboxID, OutputLine) -> Void,
        onDecisions: @escaping @Sendable ([Decision]) -> Void
    ) {
        shared = Mutex(Shared(state: state))
        self.group = group
        self.workers = workers
        self.reclaimers = reclaimers
        self.events = events
        self.cpus = cpus
        self.devices = devices
        self.onDecisions = onDecisions
        sensors = HostSensors()
        self.log = log
        self.factory = factory
        self.sink = sink
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
        label: String,
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
                alone: cpu != nil,
                fresh: fresh,
                giveUpAt: now + Int64(giveUpAfter.seconds * 1e9),
                label: label
            )
            let effects = shared.state.lease(request, now: now)
            onDecisions(shared.state.takeJournal())
            return (token, effects)
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
    package func setPlan(_ plan: FunctionPlan, live: LiveLimits) {
        shared.withLock { $0.live[plan.name] = live }
        apply { state, now in state.setPlan(plan, now: now) }
        for member in members(of: plan.name) {
            do {
                try member.limits.setCPU(plan.cpu)
            } catch {
                log.warning("a limit of \(member.id) could not be written: \(error)")
            }
            member.edit(live, devices, log)
            member.announce(memory: plan.memory, cpu: plan.cpu)
        }
    }

    package func removePlan(_ name: String) {
        apply { state, now in state.removePlan(name, now: now) }
        shared.withLock { shared in
            shared.live[name] = nil
            shared.retired[name] = nil
        }
    }
    package func setBudget(_ budget: Bytes) { apply { state, now in state.setBudget(budget, now: now) } }
    package func setLimits(_ limits: PoolLimits, pace new: PoolPace) {
        pace.withLock { $0 = new }
        sensors.setWindow(new.stallWindow)
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
        stopSensing()
    }

    private func waitUntilEmpty(_ deadline: Instant) {
        while MonotonicClock.now() < deadline, shared.withLock({ !$0.state.entries.isEmpty }) {
            KernelSleep.milliseconds(5)
        }
    }

    /// Writes the log lines of a function that are still put off: who has its answer finds them.
    package func settleOutput(of function: String) {
        let members = shared.withLock { shared in shared.members.values.filter { $0.owner == function } }
        for member in members { member.output.settle() }
    }

    func members(of function: String) -> [PooledSandbox] {
        shared.withLock { $0.members.values.filter { $0.function == function } }
    }

    // MARK: State and effects

    /// Feeds an event to the state and performs what follows, outside the lock.
    func apply(_ event: (inout PoolState, Instant) -> [PoolEffect]) {
        let now = MonotonicClock.now()
        let effects = shared.withLock { shared in
            let effects = event(&shared.state, now)
            let decisions = shared.state.takeJournal()
            if !decisions.isEmpty { onDecisions(decisions) }
            return effects
        }
        perform(effects)
    }

    func caller(_ token: LeaseToken) -> (@Sendable (LeaseOutcome) -> Void)? {
        shared.withLock { shared in
            shared.cpuOverrides[token] = nil
            return shared.callers.removeValue(forKey: token)
        }
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
                return (entry.id, entry.limit, wanted)
            }
        }
    }

    /// How many sandboxes a function has, all its versions together.
    package func count(of function: String) -> Int { shared.withLock { $0.state.taken(function) } }

    /// How far provisioning a plan has got.
    package func provisioning(_ plan: String) -> Provisioning { shared.withLock { $0.state.provisioning(plan) } }
    package var ledger: Ledger<SandboxID> { shared.withLock { $0.state.ledger } }

    /// What was learnt of each function.
    package var profiles: [String: FunctionProfile] { shared.withLock { $0.state.profiles } }

    /// The host as it was last looked at, and how much it hurts.
    package var host: (sample: HostSample?, tier: HostTier) { shared.withLock { ($0.state.host, $0.state.tier) } }

    /// Microseconds in which tasks of the host have waited for memory.
    package var stalls: (some: Int64, full: Int64)? { sensors.stalled }

    /// Whose memory became whose.
    package var flows: [MemoryFlow: Bytes] { shared.withLock { $0.state.flows } }

    /// Requests that have no sandbox yet.
    package var waiting: Int { shared.withLock { $0.state.waitingCount } }
}
