// SPDX-License-Identifier: Apache-2.0
import Units

/// Requests: they come, wait, get a sandbox or a reason.
extension PoolState {
    package mutating func lease(_ request: LeaseRequest, now: Instant) -> [PoolEffect] {
        guard !isShuttingDown else { return [refuse(request, .shuttingDown)] }
        guard let plan = plans[request.function] else { return [refuse(request, .unknownFunction)] }
        let contract = request.memory ?? plan.memory
        guard contract <= ledger.budget else {
            return [refuse(request, .neverFits(contract: contract, budget: ledger.budget))]
        }
        // A function that was switched off by giving it none: waiting would not help.
        guard plan.concurrency > 0 else { return [refuse(request, .concurrency(limit: 0))] }
        guard waiting.count < limits.maxWaiting else {
            return [refuse(request, .queueFull(limit: limits.maxWaiting))]
        }
        let interval = lastArrivals.updateValue(now, forKey: request.function).map { Double(now - $0) / 1e9 }
        profiles[request.function, default: FunctionProfile()].arrived(after: interval)
        waiting[request.token] = Waiting(request: request, since: now)
        guard !isPlaceless(request) else {
            wait(request.token, for: .concurrency(limit: plan.concurrency))
            return []
        }
        return pump(now: now)
    }

    /// The caller has gone: its request leaves the queue. One that runs already is not touched.
    package mutating func cancel(_ token: LeaseToken) { waiting.removeValue(forKey: token) }

    mutating func refuse(_ request: LeaseRequest, _ why: PoolRefusal) -> PoolEffect {
        waiting.removeValue(forKey: request.token)
        explain(
            Decision(
                .refuse,
                request: request.label,
                function: request.function,
                .refusal(why),
                ["free_bytes": ledger.free.count, "budget_bytes": ledger.budget.count, "waiting": Int64(waiting.count)]
            )
        )
        return .refuse(request.token, why)
    }

    /// Serves whoever can be served, oldest first.
    ///
    /// A request that waits for memory keeps its place: nobody behind it is promised more memory before it, but those
    /// behind it may use what is warm already. Where one waits for an idle sandbox, nobody behind it joins a busy one of
    /// its function, or it might never become idle.
    mutating func pump(now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        var seen: [String: Int] = [:]
        var memoryIsSpokenFor = false
        var awaited: Set<String> = []
        var placesAreSpokenFor: Set<String> = []
        placeless.removeAll(keepingCapacity: true)
        for token in Array(waiting.keys) {
            guard let request = waiting[token]?.request, let plan = plans[request.function] else { continue }
            if isPlaceless(request) {
                wait(token, for: .concurrency(limit: plan.concurrency))
                continue
            }
            let contract = request.memory ?? plan.memory
            if !awaited.contains(plan.name), let id = freePlace(for: request, plan) {
                effects.append(join(request, id, now: now))
                continue
            }
            if let id = warmSandbox(for: request, contract, mayGrow: !memoryIsSpokenFor) {
                effects.append(dispatch(request, to: id, contract, now: now))
                continue
            }
            if isBeingStarted(for: request, seen: &seen) { continue }
            let before = effects.count
            let blocked =
                placesAreSpokenFor.contains(plan.function)
                ? .concurrency(limit: plan.concurrency)
                : start(for: request, plan, contract, mayReserve: !memoryIsSpokenFor, now: now, &effects)
            guard waiting[token] != nil else { continue }
            // Whoever waits for one of its function's places has it before those behind: they would start sandboxes in it
            // that it ends for the place, without end.
            if case .concurrency = blocked {
                let isFirst = placesAreSpokenFor.insert(plan.function).inserted
                if isFirst, effects.count == before, request.isPlain, !request.fresh { placeless.insert(plan.name) }
            }
            if !request.isPlain, !request.fresh { awaited.insert(plan.name) }
            wait(token, for: blocked)
            if case .noMemory = blocked { memoryIsSpokenFor = true }
        }
        return effects
    }

    /// Whether a request waits behind another one like it, all of whose function's sandboxes are busy: then nothing has
    /// to be looked at to know that it waits too. Under load most requests are such, and each is looked at often.
    private func isPlaceless(_ request: LeaseRequest) -> Bool {
        request.isPlain && !request.fresh && placeless.contains(request.function)
    }

    private mutating func wait(_ token: LeaseToken, for blocked: PoolRefusal?) {
        guard let old = waiting[token], old.blockedBy != blocked else { return }
        if let blocked, old.blockedBy == nil { explainWait(old.request, blocked) }
        waiting[token]?.blockedBy = blocked
    }

    private mutating func explainWait(_ request: LeaseRequest, _ blocked: PoolRefusal) {
        explain(
            Decision(
                .wait,
                request: request.label,
                function: request.function,
                .refusal(blocked),
                ["free_bytes": ledger.free.count, "budget_bytes": ledger.budget.count]
            )
        )
    }

    /// The best sandbox at hand: running-ready before frozen, most recently used first, so that the rest can age.
    private func warmSandbox(for request: LeaseRequest, _ contract: Bytes, mayGrow: Bool) -> SandboxID? {
        guard !request.fresh else { return nil }
        var best: Entry?
        for entry in entries.values where entry.function == request.function && isCurrent(entry) && entry.isWarm {
            let growth = growth(of: entry, to: contract)
            guard growth <= .zero || (mayGrow && fits(growth)) else { continue }
            if let other = best, other.preference >= entry.preference { continue }
            best = entry
        }
        return best?.id
    }

    /// How many requests of a function may run at once in one of its sandboxes.
    func places(_ function: String) -> Int { max(1, plans[function]?.perSandbox ?? 1) }

    /// A busy sandbox with a place for a request of no limits of its own: it costs no memory, and the idle ones can age.
    private func freePlace(for request: LeaseRequest, _ plan: FunctionPlan) -> SandboxID? {
        guard plan.perSandbox > 1, request.isPlain, !request.fresh else { return nil }
        var best: Entry?
        for entry in entries.values where entry.function == request.function && isCurrent(entry) {
            guard entry.phase == .busy, entry.takesMore, entry.running < min(entry.places, plan.perSandbox),
                entry.limit >= plan.memory
            else { continue }
            if let other = best, other.running >= entry.running { continue }
            best = entry
        }
        return best?.id
    }

    private mutating func join(_ request: LeaseRequest, _ id: SandboxID, now: Instant) -> PoolEffect {
        waiting.removeValue(forKey: request.token)
        entries[id]?.running += 1
        entries[id]?.served += 1
        explain(
            Decision(
                .run,
                sandbox: id,
                request: request.label,
                function: request.function,
                "a busy sandbox with a free place (per_sandbox)",
                ["limit_bytes": entries[id]?.limit.count ?? 0, "running": Int64(entries[id]?.running ?? 0)]
            )
        )
        return .join(request.token, id)
    }

    /// What the ledger would have to promise an entry in addition, for a request of this size.
    private func growth(of entry: Entry, to contract: Bytes) -> Bytes {
        max(chargeWhileRunning(entry.function, at: max(contract, entry.limit)), min(entry.reserved, contract))
            - ledger.held(by: entry.id)
    }

    private mutating func dispatch(
        _ request: LeaseRequest,
        to id: SandboxID,
        _ contract: Bytes,
        now: Instant
    ) -> PoolEffect {
        let since = waiting.removeValue(forKey: request.token)?.since ?? now
        guard var entry = entries[id] else { preconditionFailure("a sandbox was chosen that is not there") }
        let (held, old) = (ledger.held(by: id), entry)
        let wasFrozen = entry.phase == .shrunk || entry.phase == .shrinking || entry.isFrozen
        let kind: StartKind =
            wasFrozen
            ? .thawed
            : entry.served > 0 ? .warm : entry.wasPrewarmed || entry.idleSince < since ? .prewarmed : .cold
        entry.phase = .busy
        entry.running = 1
        entry.takesMore = request.isPlain && contract >= entry.limit
        entry.served += 1
        entry.resistsUntil = 0
        entry.due = 0
        entry.isPrepared = false
        (entry.isFrozen, entry.isObserved) = (false, false)
        entry.bursts = 0
        entry.beneficiary = nil
        entry.clock = evictionClock
        entry.wokeAfter = old.phase == .shrunk ? .nanoseconds(now - entry.shrunkAt) : nil
        entry.pending = contract < entry.limit ? contract : nil
        entry.waking = contract
        entries[id] = entry
        // One that holds more than this request may use is lowered before it runs, and holds it until that is done.
        guard setLimit(max(contract, entry.limit), of: id) else {
            preconditionFailure("a sandbox was chosen that the ledger has no room for")
        }
        explain(
            Decision(
                .run,
                sandbox: id,
                request: request.label,
                function: entry.function,
                .run(kind, wasShrunk: old.phase == .shrunk, limit: old.limit, contract: contract),
                [
                    "contract_bytes": contract.count, "limit_before_bytes": old.limit.count,
                    "held_before_bytes": held.count,
                    "held_bytes": ledger.held(by: id).count, "idle_ms": (now - old.idleSince) / 1_000_000,
                ]
            )
        )
        return .run(request.token, id, kind, contract: contract)
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
        // One with limits of its own takes all places of a sandbox.
        seen[request.function, default: 0] += request.isPlain ? 1 : places(request.function)
        return seen[request.function, default: 0] <= starting * places(request.function)
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
        let charge = chargeWhileRunning(plan.name, at: contract)
        let shortfall = PoolRefusal.noMemory(wanted: charge, free: ledger.free, budget: ledger.budget)
        // A warm one that only lacks memory to grow is better than a new one, once there is room.
        let grower = request.fresh ? nil : growable(request.function)
        guard grower != nil || taken(plan.function) < plan.concurrency else {
            if let stale = staleIdle(plan) {
                effects.append(stop(stale, .replaced))
            } else if let spare = spareIdle(plan, ownToo: request.fresh) {
                effects.append(stop(spare, .outranked))
            }
            return .concurrency(limit: plan.concurrency)
        }
        if tier == .red {
            let available = host?.available ?? .zero
            effects.append(refuse(request, .hostPressure(wanted: charge, available: available)))
            return nil
        }
        if let grower {
            guard mayReserve else { return shortfall }
            let growth = growth(of: grower, to: contract)
            effects += makeRoom(for: growth, sparing: grower.id, for: plan.name, now: now)
            return shortfall
        }
        if !request.fresh, let prewarmed = prewarmedSandbox(for: plan, contract) {
            guard mayReserve else { return shortfall }
            let growth = charge - ledger.held(by: prewarmed.id)
            guard fits(growth), canPayWakeDebt(now: now) else {
                effects += makeRoom(for: growth, sparing: prewarmed.id, for: plan.name, now: now)
                return shortfall
            }
            effects.append(assign(prewarmed, to: plan, contract, for: request, now: now))
            return nil
        }
        guard entries.count < limits.maxSandboxes else {
            let isOnItsWay = entries.values.contains { $0.phase == .stopping }
            if !isOnItsWay, let victim = evictable(sparing: nil) {
                effects.append(evict(victim, .evicted, for: plan.name))
            }
            return .tooManySandboxes(limit: limits.maxSandboxes)
        }
        guard mayReserve else { return shortfall }
        guard fits(charge), canPayWakeDebt(now: now) else {
            effects += makeRoom(for: charge, sparing: nil, for: plan.name, now: now)
            return shortfall
        }
        effects.append(
            startSandbox(plan, contract, for: request, reason: "no sandbox of the function is free", now: now)
        )
        return nil
    }

    mutating func startSandbox(
        _ plan: FunctionPlan,
        _ contract: Bytes,
        for request: LeaseRequest?,
        reason: String,
        now: Instant
    ) -> PoolEffect {
        if let request { noteStart(of: plan, for: request, now: now) }
        let id = makeID(plan.name)
        var entry = Entry(
            id: id,
            function: plan.name,
            owner: plan.function,
            isProvisioned: provisioned(plan.name) < plan.provisioned,
            generation: plan.generation,
            phase: .starting(reservedFor: request?.fresh == true ? request?.token : nil),
            limit: contract,
            startedAt: now
        )
        entry.clock = evictionClock
        entry.places = max(1, plan.perSandbox)
        entries[id] = entry
        guard setLimit(contract, of: id) else {
            preconditionFailure("a start was decided that the ledger has no room for")
        }
        explain(
            Decision(
                .start,
                sandbox: id,
                request: request?.label,
                function: plan.name,
                reason,
                [
                    "contract_bytes": contract.count, "held_bytes": ledger.held(by: id).count,
                    "free_bytes": ledger.free.count, "live": Int64(live(plan.name)),
                ]
            )
        )
        return .start(id, function: plan.name, contract: contract)
    }

    private func growable(_ function: String) -> Entry? {
        entries.values.last { $0.function == function && isCurrent($0) && $0.isWarm }
    }

    private func staleIdle(_ plan: FunctionPlan) -> SandboxID? {
        entries.values.first { $0.owner == plan.function && !isCurrent($0) && $0.isWarm }?.id
    }

    /// What was idle longest of the other versions of a plan's function, whose concurrency it shares, and of its own too
    /// for a request that wants a new one.
    private func spareIdle(_ plan: FunctionPlan, ownToo: Bool) -> SandboxID? {
        entries.values
            .filter { $0.owner == plan.function && (ownToo || $0.function != plan.name) && $0.isWarm && isSpare($0) }
            .min { $0.idleSince < $1.idleSince }?
            .id
    }
}

extension LeaseRequest {
    /// Whether it takes a sandbox as it is.
    var isPlain: Bool { memory == nil && !alone }
}

extension PoolRefusal {
    /// One clause with the numbers.
    package var reason: String {
        switch self {
        case .unknownFunction: "the function was removed"
        case .neverFits(let contract, let budget):
            "\(contract.rounded) are asked for, and the host's whole budget is \(budget.rounded) (host.memory in fn.yaml)"
        case .noMemory(let wanted, let free, let budget):
            "no memory for another sandbox: \(wanted.rounded) are needed, \(free.rounded) of \(budget.rounded) are free, and nothing idle is left to take from"
        case .concurrency(let limit): "all \(limit) sandboxes of the function are busy (its concurrency)"
        case .tooManySandboxes(let limit): "all \(limit) sandboxes of the host are busy (pools.max_sandboxes)"
        case .queueFull(let limit): "\(limit) requests are waiting already"
        case .hostPressure(let wanted, let available):
            "the host is out of memory: \(wanted.rounded) are needed and only \(available.rounded) are available, so nothing may grow now"
        case .shuttingDown: "the daemon is stopping"
        }
    }
}
