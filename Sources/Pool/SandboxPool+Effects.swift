// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import NIOCore
import NIOPosix
import Policy
import Reclaim
import RuntimeAPI
import Sandbox
import Units

/// What the pool's decisions do to the kernel.
extension SandboxPool {
    func perform(_ effects: [PoolEffect]) {
        for effect in effects {
            switch effect {
            case .start(let id, let function, let contract): onWorker { $0.launch(id, function, contract) }
            case .assign(let id, let function, let contract): onWorker { $0.assign(id, function, contract) }
            case .run(let token, let id, let start, let contract): run(token, id, start, contract)
            case .join(let token, let id): join(token, id)
            case .refuse(let token, let refusal): caller(token)?(.refused(refusal))
            case .startFailed(let token, let id): tellStartFailure(token, id)
            case .shrink(let id, let order): onReclaimer { $0.shrink(id, order) }
            case .freeze(let id): onReclaimer { $0.freeze(id) }
            case .prepare(let id, let contract): onReclaimer { $0.prepare(id, at: contract) }
            case .raise(let id, let contract): raise(id, to: contract)
            case .lower(let id, let contract): onReclaimer { $0.lower(id, to: contract) }
            case .stop(let id, let reason): stop(id, reason)
            }
        }
    }

    func onWorker(_ body: @escaping @Sendable (SandboxPool) -> Void) {
        workers.submit { _ in body(self) }
    }

    func onReclaimer(_ body: @escaping @Sendable (SandboxPool) -> Void) {
        reclaimers.submit { _ in
            Thread.stepBack()
            body(self)
        }
    }

    func member(_ id: SandboxID) -> PooledSandbox? { shared.withLock { $0.members[id] } }

    // MARK: Running

    /// What a request needs beside its sandbox.
    private struct Run {
        var token: LeaseToken
        var start: StartKind
        var contract: Bytes
        var low: Bytes
        var cpu: CPUQuota?
    }

    private func run(_ token: LeaseToken, _ id: SandboxID, _ start: StartKind, _ contract: Bytes) {
        let (member, run) = shared.withLock { shared in
            let plan = shared.members[id].flatMap { shared.state.plan($0.function) }
            let cpu = shared.cpuOverrides.removeValue(forKey: token) ?? plan?.cpu
            let low = plan?.memoryLow ?? .zero
            return (shared.members[id], Run(token: token, start: start, contract: contract, low: low, cpu: cpu))
        }
        guard let (member, caller) = both(member, token, id) else { return }
        guard member.limits.memoryMax > contract else { return begin(run, on: member, caller) }
        // A request that wants less than the sandbox has: lowered first, which may have to reclaim.
        onWorker { pool in
            let (began, before) = (MonotonicClock.now(), member.limits.memoryMax)
            pool.lower(id, to: contract)
            let after = member.limits.memoryMax
            let step = LimitStep(.resize, began: began, ended: MonotonicClock.now(), from: before, to: after)
            pool.begin(run, on: member, caller, after: [step])
        }
    }

    /// Both sides of a lease that was decided; `nil` where one of them has gone since, and then the other one is told.
    private func both(
        _ member: PooledSandbox?,
        _ token: LeaseToken,
        _ id: SandboxID
    ) -> (PooledSandbox, @Sendable (LeaseOutcome) -> Void)? {
        let caller = caller(token)
        if let member, let caller { return (member, caller) }
        // Where the caller withdrew, the sandbox goes back unused.
        apply { state, now in state.finished(id, now: now) }
        caller?(.cannotStart("sandbox \(id) ended before it was given the request"))
        return nil
    }

    /// A busy sandbox takes one more, as it is.
    private func join(_ token: LeaseToken, _ id: SandboxID) {
        guard let (member, caller) = both(member(id), token, id) else { return }
        caller(.granted(Lease(sandbox: member, token: token, start: .warm, contract: member.limits.memoryMax)))
    }

    private func begin(
        _ run: Run,
        on member: PooledSandbox,
        _ caller: @Sendable (LeaseOutcome) -> Void,
        after earlier: [LimitStep] = []
    ) {
        // What did not fit into less runs with what it has.
        let contract = max(run.contract, member.limits.memoryMax)
        do {
            if run.start == .thawed { member.willWake() }
            let steps = try member.limits.wake(at: contract, low: run.low, cpu: run.cpu)
            if steps.last?.kind == .thaw { prefetch(member) }
            shared.withLock { $0.state.woken(member.id) }
            member.announce(memory: contract, cpu: run.cpu)
            var lease = Lease(sandbox: member, token: run.token, start: run.start, contract: contract)
            lease.steps = earlier.isEmpty ? steps : earlier + steps
            caller(.granted(lease))
        } catch {
            log.error("the limits of \(member.id) could not be raised: \(error)")
            stop(member.id, .failed)
            caller(.cannotStart("the limits of sandbox \(member.id) could not be raised: \(error)"))
        }
    }

    /// Brings back what the last wake needed, beside the request rather than before it. For functions whose wakes have
    /// been slow, and for two at a time: more would only wait for each other.
    private func prefetch(_ member: PooledSandbox) {
        guard let set = member.workingSet, set.size > .mib(1),
            shared.withLock({ $0.state.profiles[member.function]?.wantsPrefetch }) == true,
            sensing.withLock({ $0.beginPrefetch() })
        else { return }
        onWorker { pool in
            set.prefetch { !member.hasExited }
            pool.sensing.withLock { $0.prefetches -= 1 }
        }
    }

    /// A request is expected: limits up and pages back, while it stays frozen.
    private func prepare(_ id: SandboxID, at contract: Bytes) {
        guard let member = member(id) else { return }
        let wakes = member.limits.wakes
        raiseIfHeld(id, to: contract) { limits throws(CgroupError) in try limits.prepare(at: contract) }
        member.workingSet?.prefetch { member.limits.wakes == wakes }
    }

    // MARK: Ending

    /// The process has ended, asked for or not. Told on the kernel event thread.
    func ended(_ member: PooledSandbox, _ status: ExitStatus) {
        member.whenHeardOut { [self] in bury(member, status) }
    }

    /// One that cannot be ended is buried alive: whoever waits for it is told, and its place and memory stay taken until
    /// nothing of it is left (`remove`). Never blocks: that is a worker's.
    func bury(_ member: PooledSandbox, _ status: ExitStatus) {
        guard let report = member.exited(status) else { return }
        // In one go, whether it was starting or not: in between it might be given a request.
        failing(member.id, .initFailed(report)) { state, now in
            state.exited(member.id, member.endCause(report), now: now)
        }
        onWorker { $0.destroy(member) }
    }

    private func stop(_ id: SandboxID, _ reason: StopReason) {
        log.debug("stopping \(id): \(reason.rawValue)")
        // One that has not been adopted yet is ended by the worker that starts it, when it finds itself unwanted.
        member(id)?.end(reason == .failed ? .failure : .spindown)
    }

    private func destroy(_ member: PooledSandbox) {
        member.stopWatchingOutput(events)
        retire(member)
        remove(member, attempt: 0)
    }

    /// Removes what is left of it. What cannot be removed (a process that waits inside the kernel) still has its memory:
    /// it keeps its place and its part of the budget, and is tried again, each time after a longer pause.
    private func remove(_ member: PooledSandbox, attempt: Int) {
        do {
            // Others wait for this thread: only the first attempt is a patient one.
            try member.destroy(patience: attempt == 0 ? .seconds(5) : .milliseconds(50))
            apply { state, now in state.removed(member.id, now: now) }
            member.wasRemoved()
        } catch {
            let pause = min(1 << attempt, 60)
            log.error("sandbox \(member.id) cannot be removed, tried again in \(pause) s: \(error)")
            group.next()
                .scheduleTask(in: .seconds(Int64(pause))) { [weak self] in
                    self?.onWorker { $0.remove(member, attempt: min(attempt + 1, 6)) }
                }
        }
    }

    // MARK: Resizing

    func edit(_ id: SandboxID, _ body: (LimitControl) throws(CgroupError) -> Void) {
        guard let member = member(id) else { return }
        do {
            try body(member.limits)
        } catch {
            log.warning("the limits of \(id) could not be edited: \(error)")
        }
    }

    private func raise(_ id: SandboxID, to contract: Bytes) {
        let (began, before) = (MonotonicClock.now(), member(id)?.limits.memoryMax)
        raiseIfHeld(id, to: contract) { limits throws(CgroupError) in try limits.grow(to: contract) }
        guard let member = member(id) else { return }
        let after = member.limits.memoryMax
        if let before, after != before {
            member.noteResize(LimitStep(.resize, began: began, ended: MonotonicClock.now(), from: before, to: after))
        }
        member.announce(memory: contract)
        if shared.withLock({ $0.state.entries[id]?.bursts ?? 0 }) > 0 { member.noteGrowth(to: contract) }
    }

    private func lower(_ id: SandboxID, to contract: Bytes) {
        member(id)?.announce(memory: contract)
        edit(id) { limits throws(CgroupError) in
            let (began, before) = (MonotonicClock.now(), limits.memoryMax)
            let after = try limits.lower(to: contract)
            if after != before {
                self.member(id)?
                    .noteResize(LimitStep(.resize, began: began, ended: MonotonicClock.now(), from: before, to: after))
            }
            self.apply { state, now in state.lowered(id, to: limits.memoryMax, wanted: contract, now: now) }
        }
    }

    /// Raises a limit under the pool's lock, if the ledger still holds it: raising takes microseconds, and no lowering
    /// can come between the look and the write.
    private func raiseIfHeld(_ id: SandboxID, to limit: Bytes, _ body: (LimitControl) throws(CgroupError) -> Void) {
        shared.withLock { shared in
            guard let member = shared.members[id], shared.state.mayRaise(id, to: limit) else { return }
            do {
                try body(member.limits)
            } catch {
                log.warning("the limits of \(id) could not be raised: \(error)")
            }
        }
    }

    private func freeze(_ id: SandboxID) {
        // As below: a request from here on is seen.
        let standing = shared.withLock { shared in
            shared.state.mayFreeze(id) ? shared.members[id].map { ($0, $0.limits.wakes) } : nil
        }
        guard let (member, wakes) = standing else { return }
        edit(id) { limits throws(CgroupError) in try limits.pause(since: wakes) }
        if member.limits.isFrozen { log.debug("frozen \(id)") }
    }

    /// Hint, freeze, reclaim, lower: see `LimitControl.shrink`. A request that comes meanwhile stops it at the next step.
    private func shrink(_ id: SandboxID, _ order: ShrinkOrder) {
        // Under the pool's lock: a request that takes the sandbox from here on bumps `wakes` after this reading.
        let standing = shared.withLock { shared in
            shared.state.stands(order, for: id) ? shared.members[id].map { ($0, $0.limits.wakes) } : nil
        }
        guard let (member, wakes) = standing else { return }
        let before = member.sandbox.cgroup.memoryCurrent()
        if order.hints, !member.limits.isFrozen {
            member.hint(deadline: pace.withLock { $0.hintTimeout }) { member.limits.wakes == wakes }
        }
        do {
            let tuning = shared.withLock { $0.state.limits.tuning }
            let outcome = try member.limits.shrink(
                order,
                since: wakes,
                before: before,
                host: host.sample,
                tuning: tuning
            ) {
                sensors.compression()
            }
            switch outcome {
            case .shrunk(let shrink):
                log.debug("shrunk \(id): \(shrink.before.rounded) to \(shrink.after.rounded) in \(shrink.took)")
                apply { state, now in state.shrunk(id, shrink, by: order, now: now) }
            case .stopped(let reason):
                log.debug("shrink of \(id) stopped: \(reason.rawValue)")
                let cause = reason == .woken ? ShrinkStop.woken : .wouldNotFreeze
                apply { state, now in state.shrinkStopped(id, reason.rawValue, cause: cause, by: order, now: now) }
            }
        } catch {
            // The group can vanish under the reclaimer: the process ended, and its end is told elsewhere.
            log.debug("shrink of \(id) failed: \(error)")
            apply { state, now in state.shrinkStopped(id, "\(error)", by: order, now: now) }
        }
    }
}
