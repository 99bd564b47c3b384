// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import NIOCore
import NIOPosix
import Reclaim
import Sandbox
import Units

/// What the pool's decisions do to the kernel.
extension SandboxPool {
    func perform(_ effects: [PoolEffect]) {
        for effect in effects {
            switch effect {
            case .start(let id, let function, let contract): onWorker { $0.launch(id, function, contract) }
            case .run(let token, let id, let start, let contract): run(token, id, start, contract)
            case .refuse(let token, let refusal): caller(token)?(.refused(refusal))
            case .startFailed(let token, let id): tellStartFailure(token, id)
            case .shrink(let id): onReclaimer { $0.shrink(id) }
            case .raise(let id, let contract): edit(id) { limits throws(CgroupError) in try limits.grow(to: contract) }
            case .lower(let id, let contract): onReclaimer { $0.lower(id, to: contract) }
            case .stop(let id, let reason): stop(id, reason)
            }
        }
    }

    private func onWorker(_ body: @escaping @Sendable (SandboxPool) -> Void) {
        workers.submit { _ in body(self) }
    }

    private func onReclaimer(_ body: @escaping @Sendable (SandboxPool) -> Void) {
        reclaimers.submit { _ in
            Thread.stepBack()
            body(self)
        }
    }

    private func member(_ id: SandboxID) -> PooledSandbox? { shared.withLock { $0.members[id] } }

    // MARK: Running

    private func run(_ token: LeaseToken, _ id: SandboxID, _ start: StartKind, _ contract: Bytes) {
        let (member, low, cpu) = shared.withLock { shared in
            let plan = shared.members[id].flatMap { shared.state.plan($0.function) }
            let cpu = shared.cpuOverrides.removeValue(forKey: token) ?? plan?.cpu
            return (shared.members[id], plan?.memoryLow ?? .zero, cpu)
        }
        guard let member, let caller = caller(token) else {
            // The caller withdrew between the decision and now: the sandbox goes back unused.
            return apply { state, now in state.finished(id, now: now) }
        }
        do {
            _ = try member.limits.wake(at: contract, low: low, cpu: cpu)
            caller(.granted(Lease(sandbox: member, token: token, start: start, contract: contract)))
        } catch {
            log.error("the limits of \(id) could not be raised: \(error)")
            stop(id, .failed)
            caller(.cannotStart("the limits of sandbox \(id) could not be raised: \(error)"))
        }
    }

    // MARK: Starting

    private func launch(_ id: SandboxID, _ function: String, _ contract: Bytes) {
        do {
            let made = try factory(id, function, contract)
            adopt(made, id, function, contract)
        } catch {
            log.error("sandbox \(id) could not be started: \(error)")
            fail(id, .cannotStart("\(error)"))
            apply { state, now in state.removed(id, now: now) }
        }
    }

    private func adopt(_ made: FactoryResult, _ id: SandboxID, _ function: String, _ contract: Bytes) {
        let sink = sink
        let output = OutputCapture(pipe: made.sandbox.takeOutput()) { sink(function, id, $0) }
        let limits = LimitControl(made.sandbox.cgroup, max: contract, cpu: made.cpu, cpus: cpus)
        let member = PooledSandbox(
            id: id,
            function: function,
            sandbox: made.sandbox,
            limits: limits,
            output: output
        ) { [weak self] isFirst in
            self?.apply { state, now in isFirst ? state.started(id, now: now) : state.finished(id, now: now) }
        }
        let isUnwanted = shared.withLock { shared in
            shared.members[id] = member
            return shared.state.entries[id]?.phase == .stopping
        }
        if isUnwanted { member.kill() }
        watchOutput(member)
        let timer = group.next()
            .scheduleTask(in: .nanoseconds(Int64(made.initTimeout.seconds * 1e9))) { [weak self] in
                self?.initTimedOut(member, made.initTimeout)
            }
        made.sandbox.onExit { [weak self] status in
            timer.cancel()
            self?.ended(member, status)
        }
        member.serve(group: group, answerLimit: made.answerLimit)
            .whenFailure { error in
                self.log.error("the Runtime API of \(id) could not be served: \(error)")
                member.kill()
            }
    }

    private func watchOutput(_ member: PooledSandbox) {
        do {
            try member.watchOutput(events)
        } catch {
            log.error("the output of \(member.id) cannot be watched: \(error)")
        }
    }

    private func initTimedOut(_ member: PooledSandbox, _ limit: Duration) {
        let isStarting = shared.withLock { shared in
            if case .starting = shared.state.entries[member.id]?.phase { true } else { false }
        }
        guard isStarting else { return }
        member.noteInitTimeout(limit)
        member.kill()
    }

    private func fail(_ id: SandboxID, _ outcome: LeaseOutcome) {
        shared.withLock { $0.failures[id] = outcome }
        apply { state, now in state.startFailed(id, now: now) }
        shared.withLock { _ = $0.failures.removeValue(forKey: id) }
    }

    private func tellStartFailure(_ token: LeaseToken, _ id: SandboxID) {
        let outcome = shared.withLock { $0.failures[id] }
        caller(token)?(outcome ?? .cannotStart("sandbox \(id) ended while it started"))
    }

    // MARK: Ending

    /// The process has ended, asked for or not. Runs on the kernel event thread: the rest is a worker's.
    private func ended(_ member: PooledSandbox, _ status: ExitStatus) {
        let report = member.exited(status)
        let wasStarting = shared.withLock { shared in
            if case .starting = shared.state.entries[member.id]?.phase { true } else { false }
        }
        if wasStarting {
            fail(member.id, .initFailed(report))
        } else {
            apply { state, now in state.exited(member.id, now: now) }
        }
        onWorker { $0.destroy(member) }
    }

    private func stop(_ id: SandboxID, _ reason: StopReason) {
        log.debug("stopping \(id): \(reason.rawValue)")
        // One that has not been adopted yet is ended by the worker that starts it, when it finds itself unwanted.
        member(id)?.kill()
    }

    private func destroy(_ member: PooledSandbox) {
        member.stopWatchingOutput(events)
        do {
            try member.destroy()
        } catch {
            log.error("sandbox \(member.id) left something behind: \(error)")
        }
        shared.withLock { _ = $0.members.removeValue(forKey: member.id) }
        apply { state, now in state.removed(member.id, now: now) }
    }

    // MARK: Resizing

    private func edit(_ id: SandboxID, _ body: (LimitControl) throws(CgroupError) -> Void) {
        guard let member = member(id) else { return }
        do {
            try body(member.limits)
        } catch {
            log.warning("the limits of \(id) could not be edited: \(error)")
        }
    }

    private func lower(_ id: SandboxID, to contract: Bytes) {
        edit(id) { limits throws(CgroupError) in
            let limit = try limits.lower(to: contract)
            self.apply { state, now in state.lowered(id, to: limit, wanted: contract, now: now) }
        }
    }

    private func shrink(_ id: SandboxID) {
        guard let member = member(id) else { return }
        do {
            switch try member.limits.shrink(floor: .zero, swappiness: swappiness) {
            case .shrunk(let shrink):
                log.debug("shrunk \(id): \(shrink.before.rounded) to \(shrink.after.rounded) in \(shrink.took)")
                apply { state, now in state.shrunk(id, to: shrink.limit, now: now) }
            case .stopped(let reason):
                log.debug("shrink of \(id) stopped: \(reason.rawValue)")
                apply { state, now in state.shrinkStopped(id, now: now) }
            }
        } catch {
            // The group can vanish under the reclaimer: the process ended, and its end is told elsewhere.
            log.debug("shrink of \(id) failed: \(error)")
            apply { state, now in state.shrinkStopped(id, now: now) }
        }
    }
}
