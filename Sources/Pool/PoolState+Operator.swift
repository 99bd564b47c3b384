// SPDX-License-Identifier: Apache-2.0
import Units

/// What operators and the passing of time do to the pool.
extension PoolState {
    /// A function was deployed or changed. Sandboxes of an older generation take no new request; a new size reaches
    /// the living ones at once where it fits.
    package mutating func setPlan(_ plan: FunctionPlan, now: Instant) -> [PoolEffect] {
        let old = plans.updateValue(plan, forKey: plan.name)
        var effects: [PoolEffect] = []
        for entry in entries.values where entry.function == plan.name {
            if entry.generation != plan.generation {
                if entry.isWarm { effects.append(stop(entry.id, .replaced)) }
            } else if let old, old.memory != plan.memory {
                effects += resize(entry, from: old.memory, to: plan.memory)
            }
        }
        return effects + pump(now: now)
    }

    package mutating func removePlan(_ name: String, now: Instant) -> [PoolEffect] {
        plans.removeValue(forKey: name)
        var effects: [PoolEffect] = []
        for entry in entries.values where entry.function == name && entry.isWarm {
            effects.append(stop(entry.id, .removed))
        }
        for token in waiting.values.filter({ $0.request.function == name }).map(\.request.token) {
            waiting.removeValue(forKey: token)
            effects.append(.refuse(token, .unknownFunction))
        }
        return effects + pump(now: now)
    }

    private mutating func resize(_ entry: Entry, from old: Bytes, to new: Bytes) -> [PoolEffect] {
        let held = ledger.held(by: entry.id)
        switch entry.phase {
        case .stopping: return []
        case .shrunk, .shrinking:
            // Its limits are what it holds; the contract applies when it is woken, unless it holds more than that.
            if entry.phase == .shrunk { entries[entry.id]?.pending = held > new ? new : nil }
            return []
        case .starting, .idle, .busy:
            guard new != held else {
                entries[entry.id]?.pending = nil
                return []
            }
            guard new > held else {
                entries[entry.id]?.pending = new
                return [.lower(entry.id, to: new)]
            }
            guard (try? ledger.hold(new, for: entry.id)) != nil else {
                entries[entry.id]?.pending = new
                return []
            }
            entries[entry.id]?.pending = nil
            return [.raise(entry.id, to: new)]
        }
    }

    package mutating func setBudget(_ budget: Bytes, now: Instant) -> [PoolEffect] {
        ledger.budget = budget
        return pump(now: now)
    }

    /// Called a few times a second: what is due by the clock.
    package mutating func tick(now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        for entry in entries.values {
            let idle = Duration.nanoseconds(now - entry.idleSince)
            switch entry.phase {
            case .idle where entry.pending.map({ $0 > ledger.held(by: entry.id) }) == true,
                .busy where entry.pending.map({ $0 > ledger.held(by: entry.id) }) == true:
                effects += retryRaise(entry)
            case .idle where idle >= limits.evictAfter && isSpare(entry),
                .shrunk where idle >= limits.evictAfter && isSpare(entry):
                effects.append(stop(entry.id, .expired))
            case .idle where mayShrink(entry) && (idle >= limits.idleAfter || entry.pending != nil):
                effects.append(beginShrink(entry.id))
            default: break
            }
        }
        return effects + expireWaiting(now: now) + keepWarm(now: now) + pump(now: now)
    }

    private func mayShrink(_ entry: Entry) -> Bool {
        limits.reclaims && !entry.resists && plans[entry.function]?.reclaims == true
    }

    private func isSpare(_ entry: Entry) -> Bool {
        live(entry.function) > (plans[entry.function]?.minWarm ?? 0)
    }

    private mutating func retryRaise(_ entry: Entry) -> [PoolEffect] {
        guard let size = entry.pending, (try? ledger.hold(size, for: entry.id)) != nil else { return [] }
        entries[entry.id]?.pending = nil
        return [.raise(entry.id, to: size)]
    }

    /// Refuses who has waited too long for memory or for somebody else's sandbox. A request whose own sandbox is being
    /// started is not among them: a start ends by itself, at the latest at its init timeout.
    private mutating func expireWaiting(now: Instant) -> [PoolEffect] {
        var effects: [PoolEffect] = []
        var starting: [String: Int] = [:]
        var reserved: Set<LeaseToken> = []
        for entry in entries.values where isCurrent(entry) {
            guard case .starting(let token) = entry.phase else { continue }
            if let token { reserved.insert(token) } else { starting[entry.function, default: 0] += 1 }
        }
        for item in Array(waiting.values) {
            let request = item.request
            if reserved.contains(request.token) { continue }
            if !request.fresh, let count = starting[request.function], count > 0 {
                starting[request.function] = count - 1
                continue
            }
            guard request.giveUpAt <= now else { continue }
            waiting.removeValue(forKey: request.token)
            let limit = plans[request.function]?.concurrency ?? 0
            effects.append(.refuse(request.token, item.blockedBy ?? .concurrency(limit: limit)))
        }
        return effects
    }

    private mutating func keepWarm(now: Instant) -> [PoolEffect] {
        guard !isShuttingDown else { return [] }
        var effects: [PoolEffect] = []
        for plan in plans.values where plan.minWarm > live(plan.name) {
            guard waiting.isEmpty, plan.memory <= ledger.free, entries.count < limits.maxSandboxes else { continue }
            effects.append(startSandbox(plan, plan.memory, reservedFor: nil, now: now))
        }
        return effects
    }

    /// No new requests; idle sandboxes end at once, busy ones when they finish or are killed.
    package mutating func shutdown(now: Instant) -> [PoolEffect] {
        isShuttingDown = true
        var effects: [PoolEffect] = waiting.keys.map { .refuse($0, .shuttingDown) }
        waiting.removeAll()
        for entry in entries.values where entry.phase != .stopping {
            if case .busy = entry.phase { continue }
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
