// SPDX-License-Identifier: Apache-2.0
import Collections
import Units

/// Which sandbox serves which request, and what memory each holds: the pool's decisions, as a pure state machine.
///
/// Every event returns what the driver has to do. Clock and identities come in from outside, so the same code is driven
/// by the daemon, by random walks in the tests, and by the virtual clock of `fn simulate`.
package struct PoolState: Sendable {
    /// Where a sandbox is in its life.
    package enum Phase: Sendable, Equatable {
        /// `reservedFor` is a request that wants this very sandbox.
        case starting(reservedFor: LeaseToken?)
        case idle
        case busy
        /// A shrink is under way; a request may take it back at any moment.
        case shrinking
        case shrunk
        /// On its way out; holds its memory until the kernel says that it is gone.
        case stopping
    }

    /// One sandbox as the pool sees it.
    package struct Entry: Sendable {
        package let id: SandboxID
        /// The name of its plan.
        package let function: String
        /// The function that the plan belongs to.
        package let owner: String
        /// One of the plan's `provisioned`, as it was told when it was started.
        package let isProvisioned: Bool
        package let generation: Int
        package var phase: Phase
        /// `memory.max`, as last decided or reported.
        package var limit: Bytes
        /// The size this sandbox is meant to have, when that is not what it holds: an edit that does not fit yet.
        package var pending: Bytes?
        package var idleSince: Instant = 0
        package var startedAt: Instant
        package var served = 0
        /// Requests that may run in it at once: its function's `perSandbox` when it was started.
        package internal(set) var places = 1
        /// Requests that run in it now: at least one while it is busy.
        package internal(set) var running = 0
        /// Whether more may run beside them: not beside one with limits of its own, nor while it has to be lowered.
        var takesMore = false
        /// What the last shrink did; the best guess of what the next one will.
        package internal(set) var lastShrink: Shrink?
        var shrunkAt: Instant = 0
        /// What the current request's wake will raise `memory.max` to, until the driver has done so: the ledger never
        /// goes below that meanwhile, whatever a slower edit reports.
        var waking: Bytes?
        /// How long it had been shrunk when its current request woke it.
        var wokeAfter: Duration?
        /// The order of the last shrink, which a deeper one may follow.
        var order = ShrinkOrder()
        /// The last shrink stopped without a result: not tried again before then, unless it was used meanwhile.
        var resistsUntil: Instant = 0
        /// Raised ahead of a request that is expected.
        var isPrepared = false
        /// Idle, not shrunk, and frozen.
        package internal(set) var isFrozen = false
        /// It was said that it would be shrunk.
        var isObserved = false
        /// Nothing is due for it before this moment, so that a thousand idle sandboxes cost next to nothing.
        var due: Instant = 0
        /// GreedyDual's clock when it was last used.
        var clock = 0.0
        /// Charged at least this much, in `measured` mode: its use has been seen to come near what was learnt.
        var reserved = Bytes.zero
        /// Steps in which `memory.max` ran ahead for the request that runs now.
        package internal(set) var bursts = 0
        /// Whose request this shrink or end is for; whose memory it becomes is then told by `flows`.
        var beneficiary: String?
        /// Whether its runtime had been started before it was this function's.
        var wasPrewarmed = false
    }

    struct Waiting {
        var request: LeaseRequest
        var since: Instant
        /// Why it could not be served when it was last looked at.
        var blockedBy: PoolRefusal?
    }

    package internal(set) var ledger: Ledger<SandboxID>
    package internal(set) var entries: OrderedDictionary<SandboxID, Entry> = [:]
    package var limits: PoolLimits { didSet { if limits != oldValue { lookAgain() } } }
    var plans: [String: FunctionPlan] = [:]
    var waiting: OrderedDictionary<LeaseToken, Waiting> = [:]
    /// Plans of which a request of no limits of its own waits because all sandboxes that they may have are busy, since it
    /// was last looked who can be served.
    var placeless: Set<String> = []
    var isShuttingDown = false
    /// Whether any function may grow beyond its size while it runs.
    var hasBursts = false
    private var serial: UInt64 = 0
    private let epoch: String

    // What is learnt, and what was decided from it.
    package internal(set) var profiles: [String: FunctionProfile] = [:]
    var lastArrivals: [String: Instant] = [:]
    /// When it is next looked for functions that are expected and have no sandbox, and after which of their requests
    /// one was started ahead: once for each.
    var looksAheadAt: Instant = 0
    var startedAhead: [String: Instant] = [:]
    /// Starts in a row that failed, by plan, and when one is next tried without a request.
    var failedStarts: [String: (count: Int, retryAt: Instant)] = [:]
    /// How many sandboxes of a runtime are asked for at once, by the plan of its prewarmed ones.
    var startDemand: [String: StartDemand] = [:]
    var tiers = TierTracker()
    package internal(set) var host: HostSample?
    /// GreedyDual's clock: the value of what was evicted last.
    var evictionClock = 0.0
    package internal(set) var flows: [MemoryFlow: Bytes] = [:]
    private var journal: [Decision] = []

    /// - Parameter epoch: told apart from other runs of the daemon in sandbox names.
    package init(
        budget: Bytes,
        limits: PoolLimits,
        epoch: String,
        profiles: [String: FunctionProfile] = [:]
    ) {
        ledger = Ledger(budget: budget)
        self.limits = limits
        self.epoch = epoch
        self.profiles = profiles
    }

    /// A fresh name: the function's, so that a list of cgroups can be read, and a number never used before.
    mutating func makeID(_ function: String) -> SandboxID {
        serial += 1
        // A colon may be in no host name, and would be an escape in some of the kernel's lists.
        let plain = PlanName.runtime(function) ?? function
        let name = plain.lowercased().split(separator: ":").joined(separator: "-v")
        return SandboxID("\(name)-\(epoch)\(String(serial, radix: 36))")
    }

    /// Requests that have no sandbox yet.
    package var waitingCount: Int { waiting.count }

    package func plan(_ function: String) -> FunctionPlan? { plans[function] }
    package var tier: HostTier { tiers.tier }

    /// Sandboxes of a function that are not on their way out.
    package func live(_ function: String) -> Int {
        entries.values.count { $0.function == function && $0.phase != .stopping }
    }

    /// Sandboxes of all versions of a function that are not on their way out.
    package func taken(_ function: String) -> Int {
        entries.values.count { $0.owner == function && $0.phase != .stopping }
    }

    /// What is due may have changed for everybody.
    mutating func lookAgain() { for index in entries.values.indices { entries.values[index].due = 0 } }

    /// Whether an entry may take requests of its function as it is deployed now.
    func isCurrent(_ entry: Entry) -> Bool { plans[entry.function]?.generation == entry.generation }

    // MARK: Why

    mutating func explain(_ decision: Decision) { journal.append(decision) }

    /// What was decided since this was last asked.
    package mutating func takeJournal() -> [Decision] {
        defer { journal.removeAll(keepingCapacity: true) }
        return journal
    }

    // MARK: What is held

    /// What the ledger has to hold for a sandbox that may use up to `limit`.
    func charge(_ entry: Entry, at limit: Bytes) -> Bytes {
        if entry.phase == .shrunk, let shrink = entry.lastShrink, limit == shrink.limit { return shrink.charge }
        return max(chargeWhileRunning(entry.function, at: limit), min(entry.reserved, limit))
    }

    /// Strict: the contract. Measured: what 99 of 100 calls have needed, with headroom, once that is known.
    func chargeWhileRunning(_ function: String, at limit: Bytes) -> Bytes {
        // What one call has needed says nothing of several at once.
        guard limits.isMeasured, plans[function]?.perSandbox == 1, let peak = profiles[function]?.peak else {
            return limit
        }
        return Policy.measuredCharge(peak: peak, contract: limit)
    }

    /// Promises a sandbox what it needs at `limit`; `false`, with nothing changed, when the ledger has not got it.
    mutating func setLimit(_ limit: Bytes, of id: SandboxID) -> Bool {
        guard let entry = entries[id], (try? ledger.hold(charge(entry, at: limit), for: id)) != nil else {
            return false
        }
        entries[id]?.limit = limit
        return true
    }

    /// Takes back what a sandbox no longer needs; never asks for more.
    mutating func settleLimit(_ limit: Bytes, of id: SandboxID) {
        guard var entry = entries[id] else { return }
        entry.limit = limit
        entries[id] = entry
        let charge = min(charge(entry, at: limit), ledger.held(by: id))
        do throws(Ledger<SandboxID>.Shortfall) {
            try ledger.hold(charge, for: id)
        } catch {
            preconditionFailure("a promise could not be made smaller: \(error)")
        }
    }

    /// Remembers whose memory became whose.
    mutating func note(_ bytes: Bytes, from entry: Entry) {
        let flow = MemoryFlow(from: entry.function, to: entry.beneficiary)
        guard bytes > .zero else { return }
        if flows.count < 10_000 || flows[flow] != nil { flows[flow, default: .zero] += bytes }
    }

    /// Whether `growth` may be promised: the ledger has it, and the host really has it too.
    func fits(_ growth: Bytes) -> Bool {
        guard growth > .zero else { return true }
        guard growth <= ledger.free, tier < .red else { return false }
        guard let host else { return true }
        return host.available - growth >= max(min(.mib(256), ledger.budget * 0.5), ledger.budget * 0.03)
    }

    /// Whether sandboxes that are likely to wake within a second would not need more than half of what is available:
    /// what was taken from them comes back at once.
    func canPayWakeDebt(now: Instant) -> Bool {
        guard let host else { return true }
        var debt = Bytes.zero
        for entry in entries.values where entry.phase == .shrunk {
            let idle = Duration.nanoseconds(now - entry.idleSince).seconds
            let profile = profiles[entry.function]
            guard let soon = profile?.arrivals.probability(within: 1, after: idle), soon > 0.5 else { continue }
            let swapped = entry.lastShrink?.swapped ?? .zero
            debt += min(swapped, profile?.workingSet.map { Bytes(Int64($0)) } ?? swapped)
        }
        return debt <= host.available * 0.5
    }
}

extension PoolState.Entry {
    /// Ready to take a request.
    var isWarm: Bool { phase == .idle || phase == .shrinking || phase == .shrunk }

    /// The highest is taken first: what is ready before what is frozen, what was provisioned before what was not, the
    /// most recently used before the rest, which can age.
    var preference: (Int, Int, Instant) { (rank, isProvisioned ? 1 : 0, idleSince) }

    /// Higher is cheaper to wake.
    var rank: Int {
        switch phase {
        case .idle: isFrozen ? 1 : 2
        case .shrinking: 1
        default: 0
        }
    }
}
