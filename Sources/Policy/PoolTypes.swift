// SPDX-License-Identifier: Apache-2.0
import Units

/// The name of a sandbox: its cgroup's leaf, its host name, and the word for it in every table.
package struct SandboxID: Sendable, Hashable, CustomStringConvertible {
    package let description: String
    package init(_ text: String) { description = text }
}

/// Names one request while it waits or runs.
package typealias LeaseToken = UInt64

/// Nanoseconds of a monotonic clock; the pure code never asks for the time itself.
package typealias Instant = Int64

/// How plans are named: `f` for what is deployed now, `f:3` for the published version 3 of the same function, and
/// `@python` for sandboxes of a runtime that are no function's yet.
package enum PlanName {
    /// Looked for as a byte: every request has a plan's name taken apart several times.
    private static let colon = UInt8(ascii: ":")

    /// The plan of a runtime's prewarmed sandboxes. No function's name begins like it.
    package static func prewarmed(_ runtime: String) -> String { "@\(runtime)" }

    /// The runtime of a plan of prewarmed sandboxes; `nil` for any other.
    package static func runtime(_ plan: String) -> String? {
        plan.utf8.first == UInt8(ascii: "@") ? String(plan.dropFirst()) : nil
    }

    package static func make(_ function: String, version: String?) -> String {
        version.map { "\(function):\($0)" } ?? function
    }

    package static func function(_ plan: String) -> String {
        plan.utf8.firstIndex(of: colon).map { String(plan[..<$0]) } ?? plan
    }

    /// `nil` for what is deployed now.
    package static func version(_ plan: String) -> String? {
        plan.utf8.firstIndex(of: colon).map { String(plan[plan.utf8.index(after: $0)...]) }
    }
}

/// What the pool has to know of a deployed function, or of one of its published versions.
package struct FunctionPlan: Sendable, Equatable {
    /// See `PlanName`.
    package var name: String
    /// Changes when code, handler, runtime or environment change: older sandboxes take no new request.
    package var generation: Int
    /// The contract of a request that asks for no size of its own.
    package var memory: Bytes
    /// `memory.low` while a request runs.
    package var memoryLow: Bytes
    package var cpu: CPUQuota?
    /// Sandboxes of this function at once, all its versions together.
    package var concurrency: Int
    package var minWarm: Int
    /// Sandboxes that are started before any request, told so, and kept.
    package var provisioned: Int
    /// Whether idle sandboxes of this function may be shrunk.
    package var reclaims: Bool
    /// Requests that may run at once in one sandbox; those that ask for limits of their own run alone.
    package var perSandbox: Int
    /// What `memory.max` may run ahead to while a request needs more than `memory`; not more than `memory` is none.
    package var burst: Bytes
    /// The plan whose prewarmed sandboxes may become this one's; `nil` when each is started from nothing.
    package var prewarmed: String?
    /// Whether all that its start costs comes after that: nothing of a program of its own has run in a prewarmed sandbox.
    package var startsWhole: Bool

    package init(
        name: String,
        generation: Int,
        memory: Bytes,
        memoryLow: Bytes = .zero,
        cpu: CPUQuota? = nil,
        concurrency: Int = 100,
        minWarm: Int = 0,
        provisioned: Int = 0,
        reclaims: Bool = true,
        burst: Bytes = .zero,
        perSandbox: Int = 1,
        prewarmed: String? = nil,
        startsWhole: Bool = false
    ) {
        self.name = name
        self.generation = generation
        self.memory = memory
        self.memoryLow = memoryLow
        self.cpu = cpu
        self.concurrency = concurrency
        self.minWarm = minWarm
        self.provisioned = provisioned
        self.reclaims = reclaims
        self.burst = burst
        self.perSandbox = perSandbox
        self.prewarmed = prewarmed
        self.startsWhole = startsWhole
    }

    /// The function that it belongs to.
    package var function: String { PlanName.function(name) }

    /// Whether it is a runtime's, with no function yet.
    var isPrewarming: Bool { PlanName.runtime(name) != nil }
}

/// One request's wish for a sandbox.
package struct LeaseRequest: Sendable {
    package var token: LeaseToken
    /// The name of a plan.
    package var function: String
    /// The contract; `nil` is the function's own.
    package var memory: Bytes?
    /// Whether it has limits of its own that the pool does not decide on, so that none may run beside it.
    package var alone: Bool
    /// Whether only a sandbox started for this request will do.
    package var fresh: Bool
    package var giveUpAt: Instant
    /// What the caller calls it, for the decision log.
    package var label: String?

    package init(
        token: LeaseToken,
        function: String,
        memory: Bytes? = nil,
        alone: Bool = false,
        fresh: Bool = false,
        giveUpAt: Instant,
        label: String? = nil
    ) {
        self.label = label
        self.token = token
        self.function = function
        self.memory = memory
        self.alone = alone
        self.fresh = fresh
        self.giveUpAt = giveUpAt
    }
}

/// Where the sandbox that serves a request comes from.
package enum StartKind: String, Sendable {
    case cold
    /// Started before its first request came: because of `min_warm`, because that was expected, or by a runtime that was
    /// started ahead and became the function's for this request.
    case prewarmed
    case warm
    /// Was frozen, and may have been shrunk.
    case thawed
}

/// Why a request gets no sandbox.
package enum PoolRefusal: Error, Sendable, Equatable {
    case unknownFunction
    /// The contract alone is more than the whole budget.
    case neverFits(contract: Bytes, budget: Bytes)
    /// Waited to the end for memory that others hold.
    case noMemory(wanted: Bytes, free: Bytes, budget: Bytes)
    /// Waited to the end for one of the function's sandboxes.
    case concurrency(limit: Int)
    /// Waited to the end for one of the host's sandboxes.
    case tooManySandboxes(limit: Int)
    case queueFull(limit: Int)
    /// The host itself is out of memory: nothing grows, whatever the ledger says.
    case hostPressure(wanted: Bytes, available: Bytes)
    case shuttingDown
}

/// Why a sandbox is stopped.
package enum StopReason: String, Sendable {
    case expired = "idle for longer than pools.evict_after"
    case evicted = "evicted for the memory of another request"
    case outranked = "its function may have no more sandboxes, and another one is wanted"
    case pressed = "evicted because the host is short of memory"
    case replaced = "the function was changed"
    case removed = "the function was removed"
    case failed = "its limits could not be written"
    case unneeded = "fewer prewarmed sandboxes of its runtime are wanted"
    case shutdown = "the daemon stops"
}

extension StopReason {
    /// One word, for counting: the `reason` of `fn_sandbox_exits_total`.
    package var cause: String {
        switch self {
        case .expired, .unneeded: "idle"
        case .evicted, .pressed: "evicted"
        case .replaced: "updated"
        case .outranked: "outranked"
        case .removed: "removed"
        case .failed: "failed"
        case .shutdown: "shutdown"
        }
    }
}

/// Why a sandbox ended that nobody had asked to.
package enum EndCause: String, Sendable {
    case oom
    case timeout
    case crash
}

/// What the driver has to do after an event, in order, outside the lock.
package enum PoolEffect: Sendable, Equatable {
    case start(SandboxID, function: String, contract: Bytes)
    /// A prewarmed sandbox becomes one of `function`: its limits, code and environment, at `contract`, which the ledger
    /// holds already. It is then starting, like any other.
    case assign(SandboxID, function: String, contract: Bytes)
    /// The request has its sandbox: wake it at `contract`, which the ledger holds already, and dispatch.
    case run(LeaseToken, SandboxID, StartKind, contract: Bytes)
    /// The request runs beside others in a busy sandbox, with the limits that it has.
    case join(LeaseToken, SandboxID)
    case refuse(LeaseToken, PoolRefusal)
    /// A sandbox that was started for want of one failed; this request is told why.
    case startFailed(LeaseToken, SandboxID)
    case shrink(SandboxID, ShrinkOrder)
    /// Freeze an idle sandbox with what it has.
    case freeze(SandboxID)
    /// A request is expected soon: raise the limits of a frozen sandbox to `contract`, which the ledger holds already,
    /// and bring back what it needs, without thawing it.
    case prepare(SandboxID, contract: Bytes)
    /// Bring a sandbox's `memory.max` to `contract`; upwards the ledger holds it already.
    case raise(SandboxID, to: Bytes)
    case lower(SandboxID, to: Bytes)
    case stop(SandboxID, StopReason)
}

/// The pool's own bounds, from `fn.yaml`.
package struct PoolLimits: Sendable, Equatable {
    package var maxSandboxes: Int
    package var maxWaiting: Int
    package var idleAfter: Duration
    package var evictAfter: Duration
    /// When an idle sandbox that is not shrunk is frozen as it is.
    package var freezeAfter: Duration
    /// Whether anything is shrunk at all.
    package var reclaims: Bool
    /// Whether it is only told what would be shrunk.
    package var observes: Bool
    package var tuning: ReclaimTuning
    /// Whether a busy sandbox is charged what its calls have needed so far, rather than its contract.
    package var isMeasured: Bool
    /// Prewarmed sandboxes of one runtime, at most; how many is learnt.
    package var prewarmedMost: Int
    /// The same of runtimes that have a word of their own.
    package var prewarmedMostByRuntime: [String: Int]

    package init(
        maxSandboxes: Int = 500,
        maxWaiting: Int = 10_000,
        idleAfter: Duration = .seconds(5),
        evictAfter: Duration = .seconds(600),
        freezeAfter: Duration = .seconds(30),
        reclaims: Bool = true,
        observes: Bool = false,
        tuning: ReclaimTuning = ReclaimTuning(),
        isMeasured: Bool = false,
        prewarmedMost: Int = 0,
        prewarmedMostByRuntime: [String: Int] = [:]
    ) {
        self.freezeAfter = freezeAfter
        self.observes = observes
        self.tuning = tuning
        self.prewarmedMostByRuntime = prewarmedMostByRuntime
        self.isMeasured = isMeasured
        self.prewarmedMost = prewarmedMost
        self.maxSandboxes = maxSandboxes
        self.maxWaiting = maxWaiting
        self.idleAfter = idleAfter
        self.evictAfter = evictAfter
        self.reclaims = reclaims
    }

    /// Whether any runtime may be started ahead.
    var prewarms: Bool { prewarmedMost > 0 || prewarmedMostByRuntime.values.contains { $0 > 0 } }

    /// - Parameter plan: the one of a runtime's prewarmed sandboxes.
    func prewarmedMost(of plan: String) -> Int {
        PlanName.runtime(plan).flatMap { prewarmedMostByRuntime[$0] } ?? prewarmedMost
    }
}
