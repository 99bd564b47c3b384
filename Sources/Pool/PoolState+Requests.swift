// SPDX-License-Identifier: Apache-2.0
import Reclaim
import Units

/// Requests: they come, wait, get a sandbox or a reason.
extension PoolState {
    package mutating func lease(_ request: LeaseRequest, now: Instant) -> [PoolEffect] {
        guard !isShuttingDown else { return [.refuse(request.token, .shuttingDown)] }
        guard let plan = plans[request.function] else { return [.refuse(request.token, .unknownFunction)] }
        let contract = request.memory ?? plan.memory
        guard contract <= ledger.budget else {
            return [.refuse(request.token, .neverFits(contract: contract, budget: ledger.budget))]
        }
        guard waiting.count < limits.maxWaiting else {
            return [.refuse(request.token, .queueFull(limit: limits.maxWaiting))]
        }
        waiting[request.token] = Waiting(request: request)
        return pump(now: now)
    }

    /// The caller has gone: its request leaves the queue. One that runs already is not touched.
    package mutating func cancel(_ token: LeaseToken) { waiting.removeValue(forKey: token) }

    /// Serves whoever can be served, oldest first.
    ///
    /// A request that waits for memory keeps its place: nobody behind it is promised more memory before it, but those
    /// behind it may use what is warm already.
    mutating func pump(now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        var seen: [String: Int] = [:]
        var memoryIsSpokenFor = false
        for token in Array(waiting.keys) {
            guard let request = waiting[token]?.request, let plan = plans[request.function] else { continue }
            let contract = request.memory ?? plan.memory
            if let id = warmSandbox(for: request, contract, mayGrow: !memoryIsSpokenFor) {
                effects.append(dispatch(request, to: id, contract, now: now))
                continue
            }
            if isBeingStarted(for: request, seen: &seen) { continue }
            let blocked = start(for: request, plan, contract, mayReserve: !memoryIsSpokenFor, now: now, &effects)
            waiting[token]?.blockedBy = blocked
            if case .noMemory = blocked { memoryIsSpokenFor = true }
        }
        return effects
    }

    /// The best sandbox at hand: running-ready before frozen, most recently used first, so that the rest can age.
    private func warmSandbox(for request: LeaseRequest, _ contract: Bytes, mayGrow: Bool) -> SandboxID? {
        guard !request.fresh else { return nil }
        var best: Entry?
        for entry in entries.values where entry.function == request.function && isCurrent(entry) && entry.isWarm {
            let growth = contract - ledger.held(by: entry.id)
            guard growth <= .zero || (mayGrow && growth <= ledger.free) else { continue }
            if let other = best, (other.rank, other.idleSince) >= (entry.rank, entry.idleSince) { continue }
            best = entry
        }
        return best?.id
    }

    private mutating func dispatch(
        _ request: LeaseRequest,
        to id: SandboxID,
        _ contract: Bytes,
        now: Instant
    ) -> PoolEffect {
        waiting.removeValue(forKey: request.token)
        let wasFrozen = entries[id]?.phase == .shrunk || entries[id]?.phase == .shrinking
        let isFirst = entries[id]?.served == 0
        let held = ledger.held(by: id)
        // A sandbox that holds more than this request may use keeps it until an edit or a shrink takes it: the
        // ledger says what the kernel's file says.
        let size = max(contract, held)
        do throws(Ledger<SandboxID>.Shortfall) {
            try ledger.hold(size, for: id)
        } catch {
            preconditionFailure("a sandbox was chosen that the ledger has no room for: \(error)")
        }
        entries[id]?.phase = .busy(request.token)
        entries[id]?.served += 1
        entries[id]?.resists = false
        if contract < held { entries[id]?.pending = contract } else { entries[id]?.pending = nil }
        return .run(request.token, id, isFirst ? .cold : wasFrozen ? .thawed : .warm, contract: size)
    }

    /// Whether one of the sandboxes that are starting will do for this request, counting those before it in the queue.
    private func isBeingStarted(for request: LeaseRequest, seen: inout [String: Int]) -> Bool {
        var starting = 0
        for entry in entries.values where entry.function == request.function && isCurrent(entry) {
            guard case .starting(let token) = entry.phase else { continue }
            if token == request.token { return true }
            if token == nil { starting += 1 }
        }
        guard !request.fresh else { return false }
        seen[request.function, default: 0] += 1
        return seen[request.function, default: 0] <= starting
    }

    /// Starts a sandbox for a request, or begins to make room for one; tells what stands in the way.
    private mutating func start(
        for request: LeaseRequest,
        _ plan: FunctionPlan,
        _ contract: Bytes,
        mayReserve: Bool,
        now: Instant,
        _ effects: inout [PoolEffect]
    ) -> PoolRefusal? {
        let shortfall = PoolRefusal.noMemory(wanted: contract, free: ledger.free, budget: ledger.budget)
        // A warm one that only lacks memory to grow is better than a new one, once there is room.
        if !request.fresh, let grower = growable(request.function) {
            guard mayReserve else { return shortfall }
            effects += makeRoom(for: contract - ledger.held(by: grower), sparing: grower, now: now)
            return shortfall
        }
        guard live(request.function) < plan.concurrency else {
            if let stale = staleIdle(request.function) { effects.append(stop(stale, .replaced)) }
            return .concurrency(limit: plan.concurrency)
        }
        guard entries.count < limits.maxSandboxes else {
            let isOnItsWay = entries.values.contains { $0.phase == .stopping }
            if !isOnItsWay, let victim = evictable(sparing: nil) { effects.append(stop(victim, .evicted)) }
            return .tooManySandboxes(limit: limits.maxSandboxes)
        }
        guard mayReserve else { return shortfall }
        guard contract <= ledger.free else {
            effects += makeRoom(for: contract, sparing: nil, now: now)
            return shortfall
        }
        effects.append(startSandbox(plan, contract, reservedFor: request.fresh ? request.token : nil, now: now))
        return nil
    }

    mutating func startSandbox(
        _ plan: FunctionPlan,
        _ contract: Bytes,
        reservedFor token: LeaseToken?,
        now: Instant
    ) -> PoolEffect {
        let id = makeID(plan.name)
        do throws(Ledger<SandboxID>.Shortfall) {
            try ledger.hold(contract, for: id)
        } catch {
            preconditionFailure("a start was decided that the ledger has no room for: \(error)")
        }
        entries[id] = Entry(
            id: id,
            function: plan.name,
            generation: plan.generation,
            phase: .starting(reservedFor: token),
            startedAt: now
        )
        return .start(id, function: plan.name, contract: contract)
    }

    private func growable(_ function: String) -> SandboxID? {
        entries.values.last { $0.function == function && isCurrent($0) && $0.isWarm }?.id
    }

    private func staleIdle(_ function: String) -> SandboxID? {
        entries.values.first { $0.function == function && !isCurrent($0) && $0.isWarm }?.id
    }
}

extension PoolState.Entry {
    /// Ready to take a request.
    var isWarm: Bool { phase == .idle || phase == .shrinking || phase == .shrunk }

    /// Higher is cheaper to wake.
    var rank: Int {
        switch phase {
        case .idle: 2
        case .shrinking: 1
        default: 0
        }
    }
}
