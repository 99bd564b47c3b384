// SPDX-License-Identifier: Apache-2.0
import Units

/// Room: who gives memory when a request needs it, and who goes.
extension PoolState {
    /// Begins to free at least `bytes`, counting what is on its way already: idle sandboxes give first, then go.
    mutating func makeRoom(for bytes: Bytes, sparing spared: SandboxID?, now: Instant) -> [PoolEffect] {
        var missing = bytes - ledger.free - expectedRelease
        var effects: [PoolEffect] = []
        while missing > .zero, let victim = shrinkable(sparing: spared, now: now) {
            missing -= expectedRelease(of: victim)
            effects.append(beginShrink(victim.id))
        }
        while missing > .zero, let victim = evictable(sparing: spared) {
            missing -= ledger.held(by: victim)
            effects.append(stop(victim, .evicted))
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

    private func expectedRelease(of entry: Entry) -> Bytes {
        let held = ledger.held(by: entry.id)
        return max(.zero, held - (entry.shrunkTo ?? held * 0.5))
    }

    /// The idle sandbox whose memory is worth most elsewhere: bytes it would give, times how long it has been idle.
    private func shrinkable(sparing spared: SandboxID?, now: Instant) -> Entry? {
        guard limits.reclaims else { return nil }
        return entries.values
            .filter { $0.phase == .idle && $0.id != spared && !$0.resists && plans[$0.function]?.reclaims == true }
            .max { score($0, now) < score($1, now) }
    }

    private func score(_ entry: Entry, _ now: Instant) -> Double {
        Double(expectedRelease(of: entry).count) * Double(now - entry.idleSince + 1)
    }

    /// The sandbox that is missed least: longest unused, of a former generation first.
    func evictable(sparing spared: SandboxID?) -> SandboxID? {
        entries.values
            .filter { ($0.phase == .idle || $0.phase == .shrunk) && $0.id != spared }
            .min { (isCurrent($0) ? 1 : 0, $0.idleSince) < (isCurrent($1) ? 1 : 0, $1.idleSince) }?
            .id
    }

    mutating func beginShrink(_ id: SandboxID) -> PoolEffect {
        entries[id]?.phase = .shrinking
        return .shrink(id)
    }

    mutating func stop(_ id: SandboxID, _ reason: StopReason) -> PoolEffect {
        entries[id]?.phase = .stopping
        return .stop(id, reason)
    }
}
