// SPDX-License-Identifier: Apache-2.0
import Reclaim
import Units

/// Sandboxes: they start, finish requests, shrink, and end.
extension PoolState {
    /// The runtime asked for its first work.
    package mutating func started(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], case .starting(let token) = entry.phase else { return [] }
        guard isCurrent(entry) else { return [stop(id, .replaced)] + pump(now: now) }
        entries[id]?.phase = .idle
        entries[id]?.idleSince = now
        if let token, waiting.removeValue(forKey: token) != nil {
            entries[id]?.phase = .busy(token)
            entries[id]?.served = 1
            return [.run(token, id, .cold, contract: ledger.held(by: id))] + pump(now: now)
        }
        return pump(now: now)
    }

    /// The sandbox did not get as far as asking for work. The request it was started for is told, and only that one:
    /// the others try again with sandboxes of their own.
    package mutating func startFailed(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], case .starting(let token) = entry.phase else { return [] }
        entries[id]?.phase = .stopping
        let told =
            token ?? waiting.values.first { $0.request.function == entry.function && !$0.request.fresh }?.request.token
        guard let told, waiting.removeValue(forKey: told) != nil else { return pump(now: now) }
        return [.startFailed(told, id)] + pump(now: now)
    }

    /// The runtime answered and asked for more work: the lease is over.
    package mutating func finished(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], case .busy = entry.phase else { return [] }
        guard isCurrent(entry) else {
            return [stop(id, plans[entry.function] == nil ? .removed : .replaced)] + pump(now: now)
        }
        entries[id]?.phase = .idle
        entries[id]?.idleSince = now
        // What this request was given beyond the function's size goes back, and an edit that did not fit is tried again.
        let size = entry.pending ?? plans[entry.function]?.memory ?? .zero
        guard size < ledger.held(by: id) else { return pump(now: now) }
        return [.lower(id, to: size)] + pump(now: now)
    }

    /// The process has ended by itself or was killed.
    package mutating func exited(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id] else { return [] }
        if case .starting = entry.phase { return startFailed(id, now: now) }
        entries[id]?.phase = .stopping
        return pump(now: now)
    }

    /// Nothing of the sandbox is left in the kernel: only now is its memory free.
    package mutating func removed(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard entries.removeValue(forKey: id) != nil else { return [] }
        ledger.release(id)
        return pump(now: now)
    }

    /// A shrink ended; `limit` is `memory.max` as it is now.
    package mutating func shrunk(_ id: SandboxID, to limit: Bytes, now: Instant) -> [PoolEffect] {
        guard entries[id]?.phase == .shrinking else { return [] }
        entries[id]?.phase = .shrunk
        entries[id]?.shrunkTo = limit
        if let pending = entries[id]?.pending, limit <= pending { entries[id]?.pending = nil }
        setHolding(limit, of: id)
        return pump(now: now)
    }

    /// A shrink ended without a result. The sandbox is thawed, or a request has it.
    package mutating func shrinkStopped(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard entries[id]?.phase == .shrinking else { return [] }
        entries[id]?.phase = .idle
        entries[id]?.resists = true
        return pump(now: now)
    }

    /// A lowering ended; `limit` is `memory.max` as it is now, `wanted` what was asked for.
    package mutating func lowered(_ id: SandboxID, to limit: Bytes, wanted: Bytes, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id] else { return [] }
        if entry.phase == .stopping { return [] }
        if limit > wanted {
            entries[id]?.pending = wanted
        } else if entry.pending == wanted {
            entries[id]?.pending = nil
        }
        // A request may have taken the sandbox at a larger size meanwhile; the kernel's file is then larger too.
        setHolding(limit, of: id)
        return pump(now: now)
    }

    private mutating func setHolding(_ limit: Bytes, of id: SandboxID) {
        guard limit < ledger.held(by: id) else { return }
        do throws(Ledger<SandboxID>.Shortfall) {
            try ledger.hold(limit, for: id)
        } catch {
            preconditionFailure("a promise could not be made smaller: \(error)")
        }
    }
}
