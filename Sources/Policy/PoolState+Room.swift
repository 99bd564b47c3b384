// SPDX-License-Identifier: Apache-2.0
import Units

/// Room: who gives memory when a request needs it, and who goes.
extension PoolState {
    /// Begins to free at least `bytes`, counting what is on its way already: idle sandboxes give first, those that gave
    /// a part give the rest, and only then some go.
    mutating func makeRoom(
        for bytes: Bytes,
        sparing spared: SandboxID?,
        for function: String,
        now: Instant
    ) -> [PoolEffect] {
        var missing = bytes - ledger.free - expectedRelease
        var effects: [PoolEffect] = []
        // What is there for nobody yet goes before anybody's.
        while missing > .zero, let spare = prewarmed(sparing: spared) {
            missing -= ledger.held(by: spare)
            effects.append(evict(spare, .evicted, for: function))
        }
        while missing > .zero, let victim = shrinkable(sparing: spared, now: now) {
            missing -= expectedRelease(of: victim)
            entries[victim.id]?.beneficiary = function
            let order = ShrinkOrder(takesFiles: tier >= .orange, hints: victim.phase == .idle, cause: .request)
            effects.append(beginShrink(victim.id, order, "\(function) needs \(bytes.rounded)", now: now))
        }
        while missing > .zero, let victim = evictable(sparing: spared) {
            missing -= ledger.held(by: victim)
            effects.append(evict(victim, .evicted, for: function))
        }
        return effects
    }

    /// What shrinks and stops in progress will give back.
    private var expectedRelease: Bytes {
        entries.values.reduce(.zero) { sum, entry in
            switch entry.phase {
            case .shrinking: sum + expectedRelease(of: entry)
            case .stopping: sum + ledger.held(by: entry.id)
            default: sum
            }
        }
    }

    func expectedRelease(of entry: Entry) -> Bytes {
        let held = ledger.held(by: entry.id)
        if entry.lastShrink != nil, entry.order.depth < 1 { return held * 0.5 }
        let guess = entry.lastShrink.map(\.charge) ?? profiles[entry.function]?.shrunkSize.map { Bytes(Int64($0)) }
        return max(.zero, held - (guess ?? held * 0.5))
    }

    /// The sandbox whose memory is worth most elsewhere. One that was shrunk gently may be asked for the rest.
    func shrinkable(sparing spared: SandboxID?, now: Instant) -> Entry? {
        guard limits.reclaims else { return nil }
        var best: (score: Double, entry: Entry)?
        for entry in entries.values where entry.id != spared && mayShrink(entry, now: now) {
            guard entry.phase == .idle || (entry.phase == .shrunk && entry.order.depth < 1) else { continue }
            let score = shrinkScore(entry, now: now)
            if best.map({ score > $0.score }) ?? true { best = (score, entry) }
        }
        return best?.entry
    }

    func mayShrink(_ entry: Entry, now: Instant) -> Bool {
        limits.reclaims && entry.resistsUntil <= now && plans[entry.function]?.reclaims == true && !isPrewarming(entry)
    }

    private func shrinkScore(_ entry: Entry, now: Instant) -> Double {
        Policy.shrinkScore(
            freeable: expectedRelease(of: entry),
            idle: .nanoseconds(now - entry.idleSince),
            profile: profiles[entry.function]
        )
    }

    /// The sandbox that is missed least, for what it holds: what is no function's yet, then of a former generation, then
    /// by GreedyDual; what was provisioned last.
    func evictable(sparing spared: SandboxID?) -> SandboxID? {
        var best: (current: Int, value: Double, id: SandboxID)?
        for entry in entries.values where (entry.phase == .idle || entry.phase == .shrunk) && entry.id != spared {
            let rank = isPrewarming(entry) ? -1 : isCurrent(entry) ? entry.isProvisioned ? 2 : 1 : 0
            let candidate = (rank, keepValue(entry), entry.id)
            if let best, (best.current, best.value) <= (candidate.0, candidate.1) { continue }
            best = candidate
        }
        return best?.id
    }

    func keepValue(_ entry: Entry) -> Double {
        entry.clock
            + Policy.keepValue(profiles[entry.function], uses: entry.served, size: ledger.held(by: entry.id))
    }

    mutating func beginShrink(_ id: SandboxID, _ order: ShrinkOrder, _ reason: String, now: Instant) -> PoolEffect {
        guard let entry = entries[id] else { return .shrink(id, order) }
        var order = order
        order.number = entry.order.number + 1
        explain(
            Decision(
                .shrink,
                sandbox: id,
                function: entry.function,
                reason,
                [
                    "held_bytes": ledger.held(by: id).count, "expected_release_bytes": expectedRelease(of: entry).count,
                    "idle_ms": (now - entry.idleSince) / 1_000_000, "depth_percent": Int64(order.depth * 100),
                    "score": Int64(min(1e15, shrinkScore(entry, now: now))),
                ]
            )
        )
        entries[id]?.phase = .shrinking
        entries[id]?.order = order
        entries[id]?.isPrepared = false
        entries[id]?.isFrozen = false
        return .shrink(id, order)
    }

    mutating func evict(_ id: SandboxID, _ reason: StopReason, for function: String?) -> PoolEffect {
        if let entry = entries[id] {
            let value = keepValue(entry)
            explain(
                Decision(
                    .evict,
                    sandbox: id,
                    function: entry.function,
                    function.map { "for \($0): of all that are idle this one is missed least for what it holds" }
                        ?? reason.rawValue,
                    [
                        "held_bytes": ledger.held(by: id).count, "free_bytes": ledger.free.count,
                        "uses": Int64(entry.served), "value": Int64(min(1e15, value * 1e6)),
                    ],
                    cause: reason.cause
                )
            )
            evictionClock = max(evictionClock, value)
            entries[id]?.beneficiary = function
        }
        return end(id, reason)
    }

    mutating func stop(_ id: SandboxID, _ reason: StopReason) -> PoolEffect {
        explain(Decision(.stop, sandbox: id, function: entries[id]?.function, reason.rawValue, cause: reason.cause))
        return end(id, reason)
    }

    private mutating func end(_ id: SandboxID, _ reason: StopReason) -> PoolEffect {
        entries[id]?.phase = .stopping
        placeless.removeAll(keepingCapacity: true)  // its place is free
        return .stop(id, reason)
    }
}
