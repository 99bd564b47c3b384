// SPDX-License-Identifier: Apache-2.0
import Units

/// What operators and the passing of time do to the pool.
extension PoolState {
    /// A function was deployed or changed. Sandboxes of an older generation take no new request; a new size reaches
    /// the living ones at once where it fits.
    package mutating func setPlan(_ plan: FunctionPlan, now: Instant) -> [PoolEffect] {
        let old = plans.updateValue(plan, forKey: plan.name)
        if old != plan { lookAgain() }
        if old?.generation != plan.generation { failedStarts[plan.name] = nil }
        hasBursts = plans.values.contains { $0.burst > $0.memory }
        var effects: [PoolEffect] = []
        for entry in entries.values where entry.function == plan.name {
            if entry.generation != plan.generation {
                if entry.isWarm { effects.append(stop(entry.id, .replaced)) }
            } else if let old, old.memory != plan.memory {
                effects += resize(entry, to: plan.memory)
            }
        }
        return effects + pump(now: now)
    }

    package mutating func removePlan(_ name: String, now: Instant) -> [PoolEffect] {
        plans.removeValue(forKey: name)
        profiles.removeValue(forKey: name)
        lastArrivals.removeValue(forKey: name)
        startedAhead.removeValue(forKey: name)
        failedStarts.removeValue(forKey: name)
        flows = flows.filter { $0.key.from != name && $0.key.to != name }
        var effects: [PoolEffect] = []
        for entry in entries.values where entry.function == name && entry.isWarm {
            effects.append(stop(entry.id, .removed))
        }
        for request in waiting.values.map(\.request).filter({ $0.function == name }) {
            effects.append(refuse(request, .unknownFunction))
        }
        return effects + pump(now: now)
    }

    /// Whether a raise that was decided still holds: the sandbox may have been lowered again since.
    package func mayRaise(_ id: SandboxID, to limit: Bytes) -> Bool {
        guard let entry = entries[id], entry.phase != .stopping, entry.limit >= limit else { return false }
        return entry.phase != .shrinking && (entry.phase != .shrunk || entry.isPrepared)
    }

    private mutating func resize(_ entry: Entry, to new: Bytes) -> [PoolEffect] {
        switch entry.phase {
        case .stopping: return []
        case .shrunk, .shrinking:
            // Its limits are what it holds; the contract applies when it is woken, unless it holds more than that.
            if entry.phase == .shrunk { entries[entry.id]?.pending = entry.limit > new ? new : nil }
            return []
        case .starting, .idle, .busy:
            guard new != entry.limit else {
                entries[entry.id]?.pending = nil
                return []
            }
            guard new > entry.limit else {
                entries[entry.id]?.pending = new
                return [.lower(entry.id, to: new)]
            }
            return raise(entry, to: new) ?? []
        }
    }

    /// Raises if the ledger has it; else the new size stays pending.
    private mutating func raise(_ entry: Entry, to new: Bytes) -> [PoolEffect]? {
        guard setLimit(new, of: entry.id) else {
            entries[entry.id]?.pending = new
            return nil
        }
        entries[entry.id]?.pending = nil
        explain(
            Decision(
                .grow,
                sandbox: entry.id,
                function: entry.function,
                "the function's size was changed",
                [
                    "limit_before_bytes": entry.limit.count, "limit_bytes": new.count,
                    "free_bytes": ledger.free.count,
                ]
            )
        )
        return [.raise(entry.id, to: new)]
    }

    package mutating func setBudget(_ budget: Bytes, now: Instant) -> [PoolEffect] {
        ledger.budget = budget
        return pump(now: now)
    }

    /// Called a few times a second: what is due by the clock.
    package mutating func tick(now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        for entry in entries.values where entry.due <= now {
            let idle = Duration.nanoseconds(now - entry.idleSince)
            switch entry.phase {
            case .idle, .busy:
                if let pending = entry.pending, pending > entry.limit, entry.bursts == 0 {
                    effects += raise(entry, to: pending) ?? []
                } else if entry.phase == .idle {
                    effects += idleTick(entry, idle, now: now)
                }
            case .shrunk: effects += shrunkTick(entry, idle, now: now)
            default: break
            }
        }
        effects += expireWaiting(now: now) + keepWarm(now: now) + startAhead(now: now) + prewarm(now: now)
        return effects + pump(now: now)
    }

    private mutating func idleTick(_ entry: Entry, _ idle: Duration, now: Instant) -> [PoolEffect] {
        if isPrewarming(entry) { return prewarmedTick(entry, now: now) }
        let profile = profiles[entry.function]
        if mayShrink(entry, now: now) {
            let wait = Policy.shrinkAfter(profile, idleAfter: limits.idleAfter, tier: tier)
            guard idle >= wait || entry.pending != nil else {
                entries[entry.id]?.due = now + min(Self.longestPause, Int64((wait - idle).seconds * 1e9))
                return []
            }
            let order = ShrinkOrder(
                depth: tier == .green ? profile?.depth ?? 1 : 1,
                takesFiles: tier >= .orange,
                cause: entry.pending == nil ? .idle : .operator
            )
            let reason =
                entry.pending == nil ? "idle for longer than \(wait.text)" : "its new size does not fit otherwise"
            return [beginShrink(entry.id, order, reason, now: now)]
        }
        let keep = Policy.keepAfter(profile, evictAfter: limits.evictAfter, isShrunk: false, tier: tier)
        if idle >= keep, isSpare(entry) { return [stop(entry.id, .expired)] }
        return observeTick(entry, idle, now: now) + freezeTick(entry, idle)
    }

    /// Says once in an idle time what would have been done, where the operator only looks on.
    private mutating func observeTick(_ entry: Entry, _ idle: Duration, now: Instant) -> [PoolEffect] {
        let wait = Policy.shrinkAfter(profiles[entry.function], idleAfter: limits.idleAfter, tier: tier)
        guard limits.observes, !entry.isObserved, plans[entry.function]?.reclaims == true, idle >= wait else {
            return []
        }
        entries[entry.id]?.isObserved = true
        explain(
            Decision(
                .observe,
                sandbox: entry.id,
                function: entry.function,
                "idle for longer than \(wait.text): would be shrunk (reclaim.mode is observe)",
                [
                    "held_bytes": ledger.held(by: entry.id).count,
                    "expected_release_bytes": expectedRelease(of: entry).count,
                    "idle_ms": Int64(idle.seconds * 1000),
                ]
            )
        )
        return []
    }

    /// What is not shrunk is frozen after a while all the same: nobody's background work takes a processor for ever.
    private mutating func freezeTick(_ entry: Entry, _ idle: Duration) -> [PoolEffect] {
        guard !entry.isFrozen, entry.pending == nil, idle >= limits.freezeAfter else { return [] }
        entries[entry.id]?.isFrozen = true
        explain(
            Decision(
                .freeze,
                sandbox: entry.id,
                function: entry.function,
                "idle for longer than \(limits.freezeAfter.text), and not to be shrunk: frozen as it is",
                ["idle_ms": Int64(idle.seconds * 1000), "held_bytes": ledger.held(by: entry.id).count]
            )
        )
        return [.freeze(entry.id)]
    }

    /// Whether a freeze that was decided still holds.
    package func mayFreeze(_ id: SandboxID) -> Bool { entries[id].map { $0.phase == .idle && $0.isFrozen } ?? false }

    /// However far away the next thing is, an entry is looked at this often.
    private static let longestPause: Instant = 1_000_000_000

    private mutating func shrunkTick(_ entry: Entry, _ idle: Duration, now: Instant) -> [PoolEffect] {
        entries[entry.id]?.due = now + Self.longestPause
        if isPrewarming(entry) { return prewarmedTick(entry, now: now) }
        let profile = profiles[entry.function]
        let keep = Policy.keepAfter(profile, evictAfter: limits.evictAfter, isShrunk: true, tier: tier)
        if idle >= keep, isSpare(entry) { return [stop(entry.id, .expired)] }
        let wait = Policy.shrinkAfter(profile, idleAfter: limits.idleAfter, tier: tier)
        // What is left alone for ten times as long gives its file pages and its working set too.
        if mayShrink(entry, now: now), !entry.order.takesFiles, idle >= wait * 10 || tier >= .orange {
            let cause: ShrinkCause = tier >= .orange ? .hostPressure : .idle
            let order = ShrinkOrder(takesFiles: true, hints: false, cause: cause)
            let reason = tier >= .orange ? "the host is short of memory" : "idle for longer than \((wait * 10).text)"
            return [beginShrink(entry.id, order, reason, now: now)]
        }
        return prepareTick(entry, idle, wait, now: now)
    }

    /// Gets a shrunk sandbox ready shortly before its next request is expected, and takes that back if none came.
    private mutating func prepareTick(_ entry: Entry, _ idle: Duration, _ wait: Duration, now: Instant) -> [PoolEffect]
    {
        guard let plan = plans[entry.function], isCurrent(entry),
            let next = Policy.expectedNext(profiles[entry.function], shrinkAfter: wait)
        else { return [] }
        if entry.isPrepared {
            guard idle > next.to else { return [] }
            return [beginShrink(entry.id, entry.order, "the request that was expected did not come", now: now)]
        }
        guard tier < .orange, idle >= next.from, idle < next.to, plan.memory > entry.limit else { return [] }
        let growth = chargeWhileRunning(entry.function, at: plan.memory) - ledger.held(by: entry.id)
        guard waiting.isEmpty, fits(growth), setLimit(plan.memory, of: entry.id) else { return [] }
        entries[entry.id]?.isPrepared = true
        explain(
            Decision(
                .prepare,
                sandbox: entry.id,
                function: entry.function,
                "its next request is expected within \((next.to - idle).text)",
                ["idle_ms": Int64(idle.seconds * 1000), "contract_bytes": plan.memory.count]
            )
        )
        return [.prepare(entry.id, contract: plan.memory)]
    }

    /// Refuses who has waited too long for memory or for somebody else's sandbox. A request whose own sandbox is being
    /// started is not among them: a start ends by itself, at the latest at its init timeout.
    private mutating func expireWaiting(now: Instant) -> [PoolEffect] {
        guard !waiting.isEmpty else { return [] }
        var effects: [PoolEffect] = []
        var starting: [String: Int] = [:]
        var reserved: Set<LeaseToken> = []
        for entry in entries.values where isCurrent(entry) {
            guard case .starting(let token) = entry.phase else { continue }
            if let token {
                reserved.insert(token)
            } else {
                starting[entry.function, default: 0] += places(entry.function)
            }
        }
        for item in Array(waiting.values) {
            let request = item.request
            if reserved.contains(request.token) { continue }
            if !request.fresh, let count = starting[request.function], count > 0 {
                starting[request.function] = count - (request.isPlain ? 1 : places(request.function))
                continue
            }
            guard request.giveUpAt <= now else { continue }
            let limit = plans[request.function]?.concurrency ?? 0
            effects.append(refuse(request, item.blockedBy ?? .concurrency(limit: limit)))
        }
        return effects
    }

    /// Starts a sandbox for a function that has none left, shortly before its next request is expected.
    ///
    /// From what is free: a guess takes nothing from anybody, and is made once for each request that it follows.
    private mutating func startAhead(now: Instant) -> [PoolEffect] {
        guard now >= looksAheadAt, !isShuttingDown, tier == .green, waiting.isEmpty else { return [] }
        looksAheadAt = now + Self.longestPause
        let present = Set(entries.values.lazy.filter { $0.phase != .stopping }.map(\.function))
        var effects: [PoolEffect] = []
        // In an order of its own, not the dictionary's: the same trace has to come to the same end each time.
        for (name, last) in lastArrivals.sorted(by: { $0.key < $1.key })
        where !present.contains(name) && startedAhead[name] != last {
            let (profile, passed) = (profiles[name], Duration.nanoseconds(now - last))
            let wait = Policy.shrinkAfter(profile, idleAfter: limits.idleAfter, tier: tier)
            guard let plan = plans[name], let next = Policy.expectedNext(profile, shrinkAfter: wait),
                passed >= next.from, passed < next.to, entries.count < limits.maxSandboxes,
                fits(chargeWhileRunning(name, at: plan.memory))
            else { continue }
            startedAhead[name] = last
            let reason = "its next request is expected within \((next.to - passed).text)"
            effects.append(startSandbox(plan, plan.memory, for: nil, reason: reason, now: now))
        }
        return effects
    }

    // MARK: The host

    /// The host's memory was looked at. What follows depends on its tier: see `HostTier`.
    package mutating func sensed(_ sample: HostSample, now: Instant) -> [PoolEffect] {
        host = sample
        let old = tier
        tiers.observe(sample, budget: ledger.budget, tuning: limits.tuning, now: now)
        if tier != old {
            lookAgain()
            explain(
                Decision(
                    .tier,
                    "the host went from \(old) to \(tier)",
                    [
                        "available_bytes": sample.available.count, "budget_bytes": ledger.budget.count,
                        "some_permille": Int64(sample.some * 1000), "full_permille": Int64(sample.full * 1000),
                        "swap_free_bytes": sample.swapFree.count,
                    ]
                )
            )
        }
        guard tier > .green, !isShuttingDown else { return waiting.isEmpty ? [] : pump(now: now) }
        return relieve(sample, now: now) + pump(now: now)
    }

    /// Gives memory back to the host, whatever the ledger has: by score to 25 % of the budget; evictions only where
    /// memory itself is short, one at a time in orange, and in red until a tenth is there.
    private mutating func relieve(_ sample: HostSample, now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        var missing = ledger.budget * 0.25 - sample.available
        while missing > .zero, let victim = shrinkable(sparing: nil, now: now) {
            missing -= max(.mib(1), expectedRelease(of: victim))
            let order = ShrinkOrder(takesFiles: tier >= .orange, hints: victim.phase == .idle, cause: .hostPressure)
            effects.append(beginShrink(victim.id, order, "the host is \(tier)", now: now))
        }
        var short = ledger.budget * 0.10 - sample.available
        let leaving = entries.values.count { $0.phase == .stopping }
        if tier >= .orange { effects += endPrewarmed() }
        guard short > .zero, tier >= .orange, leaving < 4 else { return effects }
        while short > .zero, let victim = evictable(sparing: nil) {
            guard tier == .red || entries[victim]?.phase == .shrunk else { break }
            short -= max(.mib(1), entries[victim]?.lastShrink?.after ?? ledger.held(by: victim))
            effects.append(evict(victim, .pressed, for: nil))
            if tier < .red { break }
        }
        return effects
    }

    /// The kernel's `memory.max` is not what was decided: somebody else wrote it. The file is brought back.
    package mutating func drifted(_ id: SandboxID, found: Bytes?, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], entry.phase == .idle || entry.phase == .shrunk else { return [] }
        explain(
            Decision(
                .drift,
                sandbox: id,
                function: entry.function,
                "memory.max was changed by somebody else",
                ["found_bytes": found?.count ?? -1, "limit_bytes": entry.limit.count]
            )
        )
        return []
    }

    // MARK: The end

    /// No new requests; idle sandboxes end at once, busy ones when they finish or are killed.
    package mutating func shutdown(now: Instant) -> [PoolEffect] {
        isShuttingDown = true
        var effects: [PoolEffect] = waiting.values.map(\.request).map { refuse($0, .shuttingDown) }
        for entry in entries.values where entry.phase != .stopping {
            if entry.phase == .busy { continue }
            effects.append(stop(entry.id, .shutdown))
        }
        plans.removeAll()
        return effects
    }

    /// Ends what is still busy, at the end of a shutdown's patience.
    package mutating func stopEverything() -> [PoolEffect] {
        entries.values.filter { $0.phase != .stopping }.map { stop($0.id, .shutdown) }
    }
}
