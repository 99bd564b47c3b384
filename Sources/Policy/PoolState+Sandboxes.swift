// SPDX-License-Identifier: Apache-2.0
import Units

/// Sandboxes: they start, finish requests, shrink, and end.
extension PoolState {
    /// The runtime asked for its first work.
    package mutating func started(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], case .starting(let token) = entry.phase else { return [] }
        failedStarts[entry.function] = nil
        // What a start costs is learnt from whole ones, and of functions.
        if !isPrewarming(entry), !entry.wasPrewarmed || plans[entry.function]?.startsWhole ?? false {
            profiles[entry.function, default: FunctionProfile()].started(in: .nanoseconds(now - entry.startedAt))
        }
        guard isCurrent(entry) else { return [stop(id, .replaced)] + pump(now: now) }
        entries[id]?.phase = .idle
        entries[id]?.idleSince = now
        if let token, let request = waiting.removeValue(forKey: token)?.request {
            entries[id]?.phase = .busy
            entries[id]?.running = 1
            entries[id]?.served = 1
            entries[id]?.waking = entry.limit
            explain(
                Decision(
                    .run,
                    sandbox: id,
                    request: request.label,
                    function: entry.function,
                    "the sandbox that was started for it alone",
                    ["contract_bytes": entry.limit.count, "start_ms": (now - entry.startedAt) / 1_000_000]
                )
            )
            return [.run(token, id, .cold, contract: entry.limit)] + pump(now: now)
        }
        return pump(now: now)
    }

    /// The sandbox did not get as far as asking for work. The request it was started for is told, and only that one:
    /// the others try again with sandboxes of their own.
    package mutating func startFailed(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], case .starting(let token) = entry.phase else { return [] }
        entries[id]?.phase = .stopping
        noteFailedStart(entry, now: now)
        let reason = "it ended before it asked for work"
        explain(Decision(.stop, sandbox: id, function: entry.function, reason, cause: EndCause.crash.rawValue))
        let told =
            token ?? waiting.values.first { $0.request.function == entry.function && !$0.request.fresh }?.request.token
        guard let told, waiting.removeValue(forKey: told) != nil else { return pump(now: now) }
        return [.startFailed(told, id)] + pump(now: now)
    }

    /// The driver has raised the limits for a request and thawed its sandbox.
    package mutating func woken(_ id: SandboxID) { entries[id]?.waking = nil }

    /// The runtime answered and asked for more work: the lease is over. The sandbox is idle when the last one is.
    ///
    /// - Parameter call: what the request showed of its function, if it got as far as running.
    package mutating func finished(_ id: SandboxID, _ call: CallObservation? = nil, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], entry.phase == .busy else { return [] }
        entries[id]?.running = entry.running - 1
        if let call {
            profiles[entry.function, default: FunctionProfile()]
                .called(
                    call,
                    isFirst: entry.served == 1,
                    wokeAfter: entry.wokeAfter,
                    premature: limits.idleAfter,
                    tuning: limits.tuning
                )
        }
        guard entry.running == 1 else { return pump(now: now) }
        entries[id]?.takesMore = false
        guard isCurrent(entry) else {
            return [stop(id, plans[entry.function] == nil ? .removed : .replaced)] + pump(now: now)
        }
        // What this request was given beyond the function's size goes back, and an edit that did not fit is tried again.
        let size = plans[entry.function]?.memory ?? .zero
        entries[id]?.park(size, now: now)
        guard size < entry.limit else {
            settleLimit(entry.limit, of: id)
            return raiseToPlan(id) + pump(now: now)
        }
        return [.lower(id, to: size)] + pump(now: now)
    }

    /// A request of its own, smaller size may have left the sandbox below its function's.
    private mutating func raiseToPlan(_ id: SandboxID) -> [PoolEffect] {
        guard let entry = entries[id], let plan = plans[entry.function], entry.limit < plan.memory, waiting.isEmpty,
            fits(charge(entry, at: plan.memory) - ledger.held(by: id)), setLimit(plan.memory, of: id)
        else { return [] }
        entries[id]?.pending = nil
        return [.raise(id, to: plan.memory)]
    }

    /// The process has ended by itself or was killed.
    package mutating func exited(_ id: SandboxID, _ cause: EndCause = .crash, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id] else { return [] }
        if case .starting = entry.phase { return startFailed(id, now: now) }
        if entry.phase != .stopping {
            let reason = "its process ended"
            explain(Decision(.stop, sandbox: id, function: entry.function, reason, cause: cause.rawValue))
        }
        entries[id]?.phase = .stopping
        return pump(now: now)
    }

    /// Nothing of the sandbox is left in the kernel: only now is its memory free.
    package mutating func removed(_ id: SandboxID, now: Instant) -> [PoolEffect] {
        guard let entry = entries.removeValue(forKey: id) else { return [] }
        let released = ledger.release(id)
        if entry.beneficiary != nil { note(released, from: entry) }
        return pump(now: now)
    }

    /// Whether an order to shrink still stands: a request may have taken the sandbox since, and even have finished.
    package func stands(_ order: ShrinkOrder, for id: SandboxID) -> Bool {
        entries[id]?.phase == .shrinking && entries[id]?.order.number == order.number
    }

    /// A shrink ended. What is told late, when a request has come and gone and the next one was ordered, changes nothing.
    package mutating func shrunk(
        _ id: SandboxID,
        _ shrink: Shrink,
        by order: ShrinkOrder,
        now: Instant
    ) -> [PoolEffect] {
        guard let entry = entries[id], stands(order, for: id) else { return [] }
        let held = ledger.held(by: id)
        entries[id]?.phase = .shrunk
        entries[id]?.lastShrink = shrink
        entries[id]?.shrunkAt = now
        if let pending = entry.pending, shrink.limit <= pending { entries[id]?.pending = nil }
        if !isPrewarming(entry) {
            profiles[entry.function, default: FunctionProfile()].shrank(to: shrink.charge)
        }
        settleLimit(shrink.limit, of: id)
        note(held - ledger.held(by: id), from: entry)
        explain(
            Decision(
                .shrunk,
                sandbox: id,
                function: entry.function,
                "\(shrink.before.rounded) became \(shrink.after.rounded)",
                [
                    "before_bytes": shrink.before.count, "after_bytes": shrink.after.count,
                    "released_by_runtime_bytes": shrink.released.count, "swapped_bytes": shrink.swapped.count,
                    "compressed_bytes": shrink.compressed.count, "limit_bytes": shrink.limit.count,
                    "given_back_bytes": (held - ledger.held(by: id)).count,
                    "took_us": Int64(shrink.took.seconds * 1e6),
                ],
                cause: entry.order.cause.rawValue
            )
        )
        return pump(now: now)
    }

    /// A shrink ended without a result. The sandbox is thawed, or a request has it.
    package mutating func shrinkStopped(
        _ id: SandboxID,
        _ why: String = "",
        cause: ShrinkStop = .failed,
        by order: ShrinkOrder,
        now: Instant
    ) -> [PoolEffect] {
        guard let entry = entries[id], stands(order, for: id) else { return [] }
        entries[id]?.phase = .idle
        entries[id]?.due = 0
        entries[id]?.resistsUntil = now + Policy.shrinkAgainAfter
        entries[id]?.beneficiary = nil
        let reason = "the shrink stopped: \(why)"
        explain(Decision(.keep, sandbox: id, function: entry.function, reason, cause: cause.rawValue))
        return pump(now: now)
    }

    /// A lowering ended; `limit` is `memory.max` as it is now, read under the same lock as this event, so that a raise
    /// that came in between is seen; `wanted` is what was asked for.
    package mutating func lowered(_ id: SandboxID, to limit: Bytes, wanted: Bytes, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id] else { return [] }
        if entry.phase == .stopping { return [] }
        if limit > wanted {
            entries[id]?.pending = wanted
            entries[id]?.due = 0
        } else if entry.pending == wanted {
            entries[id]?.pending = nil
        }
        explain(
            Decision(
                limit > wanted ? .pending : .lower,
                sandbox: id,
                function: entry.function,
                limit > wanted
                    ? "it uses more than \(wanted.rounded) now: tried again at its next idle"
                    : "memory.max lowered to \(limit.rounded)",
                ["limit_before_bytes": entry.limit.count, "limit_bytes": limit.count, "wanted_bytes": wanted.count]
            )
        )
        // A request may have taken the sandbox at a larger size meanwhile; the kernel's file is then larger too.
        let safe = max(limit, entry.waking ?? .zero)
        if safe < entry.limit, entry.phase != .shrunk { settleLimit(safe, of: id) }
        return pump(now: now)
    }

    /// What a busy sandbox uses now: its limit runs ahead of that within its burst, and what is charged for it follows.
    package mutating func used(_ id: SandboxID, _ current: Bytes, now: Instant) -> [PoolEffect] {
        guard let entry = entries[id], entry.phase == .busy, let plan = plans[entry.function] else { return [] }
        if limits.isMeasured, current > ledger.held(by: id) * 0.8, ledger.held(by: id) < entry.limit {
            let wanted = min(entry.limit, current * 1.25 + .mib(16))
            // If the ledger has not got it the sandbox still runs to its contract: the host absorbs that.
            if wanted - ledger.held(by: id) <= ledger.free {
                entries[id]?.reserved = wanted
                _ = setLimit(entry.limit, of: id)
            }
        }
        let headroom = Self.burst(plan, limits.tuning.growHeadroom)
        guard plan.burst > entry.limit, entry.limit - current < headroom else { return [] }
        let wanted = min(plan.burst, max(entry.limit, current) + Self.burst(plan, limits.tuning.growStep))
        let growth = charge(entry, at: wanted) - ledger.held(by: id)
        guard fits(growth), setLimit(wanted, of: id) else {
            if entry.bursts >= 0, entry.pending == nil {
                entries[id]?.pending = wanted
                explain(
                    Decision(
                        .keep,
                        sandbox: id,
                        function: entry.function,
                        "its request needs more than \(entry.limit.rounded), and the ledger has not got it yet",
                        ["current_bytes": current.count, "wanted_bytes": wanted.count, "free_bytes": ledger.free.count]
                    )
                )
            }
            return makeRoom(for: growth, sparing: id, for: entry.function, now: now)
        }
        entries[id]?.bursts += 1
        entries[id]?.pending = nil
        explain(
            Decision(
                .grow,
                sandbox: id,
                function: entry.function,
                "its request outgrows \(entry.limit.rounded): memory.max runs ahead to \(wanted.rounded) (memory_burst)",
                [
                    "current_bytes": current.count, "limit_before_bytes": entry.limit.count,
                    "limit_bytes": wanted.count, "burst_bytes": plan.burst.count, "free_bytes": ledger.free.count,
                ]
            )
        )
        return [.raise(id, to: wanted)]
    }

    /// How far `memory.max` runs ahead of use: a share of the function's size, at least 32 MiB.
    private static func burst(_ plan: FunctionPlan, _ share: Double) -> Bytes { max(.mib(32), plan.memory * share) }

    /// Whether anybody may have to be looked at while it runs.
    package var needsWatch: Bool { limits.isMeasured || hasBursts }

    package var watched: [SandboxID] {
        entries.values.compactMap { entry in
            guard entry.phase == .busy, let plan = plans[entry.function] else { return nil }
            return plan.burst > entry.limit || limits.isMeasured ? entry.id : nil
        }
    }
}

extension PoolState.Entry {
    /// Its last request is over; `size` is its function's.
    fileprivate mutating func park(_ size: Bytes, now: Instant) {
        phase = .idle
        due = 0
        idleSince = now
        wokeAfter = nil
        waking = nil
        reserved = .zero
        if pending != size { pending = nil }
    }
}
