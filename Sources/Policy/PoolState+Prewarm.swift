// SPDX-License-Identifier: Apache-2.0
import Units

/// Prewarmed sandboxes: a runtime that has been started, frozen, and is no function's yet. Any function of the runtime
/// may have one, at any size: its limits are edited when it is assigned, and a sandbox is used for one function only.
///
/// They are made from what is free while nobody waits, and are the first to go.
extension PoolState {
    func isPrewarming(_ entry: Entry) -> Bool { PlanName.runtime(entry.function) != nil }

    /// How many of a runtime's are worth having ready.
    func wantedPrewarmed(_ plan: FunctionPlan, now: Instant) -> Int {
        min(
            limits.prewarmedMost(of: plan.name),
            startDemand[plan.name]?.wanted(now: now, halfLife: limits.evictAfter) ?? 0
        )
    }

    /// A request needs a sandbox that is not there; `fresh` ones want none that was there before them.
    mutating func noteStart(of plan: FunctionPlan, for request: LeaseRequest, now: Instant) {
        guard let name = plan.prewarmed, plans[name] != nil, !request.fresh else { return }
        startDemand[name, default: StartDemand()].noteStart(now: now, halfLife: limits.evictAfter)
    }

    /// One that may become the function's: running-ready before frozen, the oldest first. None that holds more than
    /// the request may use: it would have to be lowered first.
    func prewarmedSandbox(for plan: FunctionPlan, _ contract: Bytes) -> Entry? {
        guard let name = plan.prewarmed else { return nil }
        var best: Entry?
        for entry in entries.values where entry.function == name && entry.isWarm && isCurrent(entry) {
            guard entry.limit <= contract else { continue }
            if let other = best, other.rank >= entry.rank { continue }
            best = entry
        }
        return best
    }

    mutating func assign(
        _ prewarmed: Entry,
        to plan: FunctionPlan,
        _ contract: Bytes,
        for request: LeaseRequest,
        now: Instant
    ) -> PoolEffect {
        noteStart(of: plan, for: request, now: now)
        let held = ledger.held(by: prewarmed.id)
        var entry = Entry(
            id: prewarmed.id,
            function: plan.name,
            owner: plan.function,
            isProvisioned: false,
            generation: plan.generation,
            phase: .starting(reservedFor: nil),
            limit: prewarmed.limit,
            startedAt: now
        )
        entry.clock = evictionClock
        entry.places = max(1, plan.perSandbox)
        entry.wasPrewarmed = true
        // Its shrink may still be under way: the number tells that order from a later one.
        entry.order = prewarmed.order
        entries[entry.id] = entry
        guard setLimit(contract, of: entry.id) else {
            preconditionFailure("a prewarmed sandbox was chosen that the ledger has no room for")
        }
        explain(
            Decision(
                .assign,
                sandbox: entry.id,
                request: request.label,
                function: plan.name,
                "a prewarmed sandbox of its runtime becomes its own, grown to \(contract.rounded)",
                [
                    "contract_bytes": contract.count, "limit_before_bytes": prewarmed.limit.count,
                    "held_before_bytes": held.count, "held_bytes": ledger.held(by: entry.id).count,
                    "free_bytes": ledger.free.count, "ready_ms": (now - prewarmed.startedAt) / 1_000_000,
                ]
            )
        )
        return .assign(entry.id, function: plan.name, contract: contract)
    }

    /// Starts what is wanted and not there, one of a runtime at a time, from what is free: a quarter of the budget stays.
    mutating func prewarm(now: Instant) -> [PoolEffect] {
        guard limits.prewarms, !isShuttingDown, tier == .green, waiting.isEmpty else { return [] }
        var effects: [PoolEffect] = []
        for plan in plans.values.filter(\.isPrewarming).sorted(by: { $0.name < $1.name }) {
            let wanted = wantedPrewarmed(plan, now: now)
            guard wanted > 0 else { continue }
            let there = entries.values.filter { $0.function == plan.name && $0.phase != .stopping }
            let isStarting = there.contains { if case .starting = $0.phase { true } else { false } }
            guard there.count < wanted, !isStarting, failedStarts[plan.name]?.retryAt ?? now <= now,
                entries.count < limits.maxSandboxes, ledger.free - plan.memory >= ledger.budget * 0.25,
                fits(plan.memory)
            else { continue }
            let reason = "\(wanted) prewarmed sandboxes of its runtime are wanted, and \(there.count) are there"
            effects.append(startSandbox(plan, plan.memory, for: nil, reason: reason, now: now))
        }
        return effects
    }

    /// One that is ready is frozen at what it holds, without taking its pages: it would need them all. One too many ends.
    mutating func prewarmedTick(_ entry: Entry, now: Instant) -> [PoolEffect] {
        guard let plan = plans[entry.function] else { return [stop(entry.id, .unneeded)] }
        guard live(plan.name) <= wantedPrewarmed(plan, now: now), tier < .orange else {
            return [stop(entry.id, .unneeded)]
        }
        guard entry.phase == .idle, limits.reclaims, entry.resistsUntil <= now else { return [] }
        let order = ShrinkOrder(depth: 0, hints: false)
        return [beginShrink(entry.id, order, "prewarmed: frozen at what it holds", now: now)]
    }

    /// Any of them, for others' memory.
    func prewarmed(sparing spared: SandboxID?) -> SandboxID? {
        entries.values.first { isPrewarming($0) && $0.id != spared && ($0.phase == .idle || $0.phase == .shrunk) }?.id
    }

    /// While the host is short of memory there are none.
    mutating func endPrewarmed() -> [PoolEffect] {
        let ready = entries.values.filter { isPrewarming($0) && ($0.phase == .idle || $0.phase == .shrunk) }
        return ready.map { evict($0.id, .pressed, for: nil) }
    }
}
