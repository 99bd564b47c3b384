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
        guard let member, let caller = caller(token) else {
            // The caller withdrew between the decision and now: the sandbox goes back unused.
            return apply { state, now in state.finished(id, now: now) }
        }
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

    /// A busy sandbox takes one more, as it is.
    private func join(_ token: LeaseToken, _ id: SandboxID) {
        guard let member = member(id), let caller = caller(token) else {
            return apply { state, now in state.finished(id, now: now) }
        }
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

    // MARK: Starting

    private func launch(_ id: SandboxID, _ function: String, _ contract: Bytes) {
        do {
            let began = MonotonicClock.now()
            let isProvisioned = shared.withLock { $0.state.entries[id]?.isProvisioned } ?? false
            let made = try factory.start(id, function, contract, isProvisioned)
            adopt(made, id, function, contract, launchedAt: began)
        } catch {
            log.error("sandbox \(id) could not be started: \(error)")
            fail(id, .cannotStart("\(error)"))
            apply { state, now in state.removed(id, now: now) }
        }
    }

    private func adopt(
        _ made: FactoryResult,
        _ id: SandboxID,
        _ function: String,
        _ contract: Bytes,
        launchedAt: Instant
    ) {
        Failpoint.pass("adopting")
        let (plan, log) = (PlanOfSandbox(function), log)
        let show: @Sendable (OutputLine) -> Void = { [sink] line in
            let name = plan.name.withLock { $0 }
            // What versions print is one log; what a runtime prints that is no function's yet concerns the operator.
            guard PlanName.runtime(name) != nil else { return sink(PlanName.function(name), id, line) }
            log.notice("\(id) printed: \(String(decoding: line.bytes, as: UTF8.self))")
        }
        let limits = LimitControl(made.sandbox.cgroup, max: contract, cpu: made.cpu, cpus: cpus)
        let telemetry = TelemetryHub(
            made.identity ?? .none,
            instance: id.description,
            loop: group.next(),
            connect: Self.connector(made.sandbox),
            isAsleep: { limits.isFrozen },
            now: { WallClock.iso8601(WallClock.nowMs()) }
        )
        // A prewarmed one starts, for those who subscribe, when it becomes a function's.
        if made.identity != nil { telemetry.started(memory: contract.count) }
        let output = OutputCapture(pipe: made.sandbox.takeOutput()) { line in
            show(line)
            if !line.isPlatform { telemetry.printed(line.bytes, by: .function) }
        }
        let extensionOutput = made.sandbox.takeExtensionOutput()
            .map { pipe in
                OutputCapture(pipe: pipe) { line in
                    show(OutputLine(requestID: output.requestID, bytes: line.bytes))
                    telemetry.printed(line.bytes, by: .extension)
                }
            }
        let member = PooledSandbox(
            id: id,
            plan: plan,
            sandbox: made.sandbox,
            limits: limits,
            output: output,
            extensionOutput: extensionOutput,
            telemetry: telemetry,
            launchedAt: launchedAt,
            onEnding: { [weak self] cause in self?.apply { state, now in state.exited(id, cause, now: now) } },
            onWaiting: { [weak self] isFirst, call in
                guard let self else { return }
                guard !isFirst else { return ready(id) }
                apply { state, now in state.finished(id, call, now: now) }
                if let call, call.refaultedPages > 256 { onReclaimer { $0.member(id)?.recordWorkingSet() } }
            }
        )
        member.setTmp(made.tmp, log)
        let isUnwanted = shared.withLock { shared in
            shared.members[id] = member
            return shared.state.entries[id]?.phase == .stopping
        }
        if isUnwanted { member.kill() }
        watchOutput(member)
        watchStart(member, made.initTimeout)
        made.sandbox.onExit { [weak self] status in
            member.watchStart(nil)
            self?.ended(member, status)
        }
        member.serve(made.identity, places: made.places, group: group, answerLimit: made.answerLimit)
            .whenFailure { error in
                self.log.error("the Runtime API of \(id) could not be served: \(error)")
                member.kill()
            }
        Failpoint.pass("serving")
    }

    private func watchStart(_ member: PooledSandbox, _ limit: Duration) {
        let loop = member.loop.withLock { $0 } ?? group.next()
        let timer = loop.scheduleTask(in: .nanoseconds(Int64(limit.seconds * 1e9))) { [weak self] in
            guard let self else { return }
            initTimedOut(member, limit)
        }
        member.watchStart(timer)
    }

    /// A prewarmed sandbox becomes a function's: its limits and files, then the word. It runs again meanwhile, and waits.
    private func assign(_ id: SandboxID, _ function: String, _ contract: Bytes) {
        // One that has ended meanwhile is told as such.
        guard let member = member(id), !member.hasExited else { return }
        do {
            _ = try member.limits.wake(at: contract, low: .zero, cpu: member.limits.cpu)
            let assignment = try factory.assign(member.sandbox, id, function)
            member.become(function)
            member.telemetry.become(assignment.identity)
            member.telemetry.started(memory: contract.count)
            member.setTmp(assignment.tmp, log)
            try member.limits.setCPU(assignment.cpu)
            member.announce(memory: contract, cpu: assignment.cpu)
            watchStart(member, assignment.initTimeout)
            guard member.assign(assignment.identity, environment: assignment.environment) else { return member.kill() }
        } catch {
            log.error("prewarmed sandbox \(id) could not become one of \(function): \(error)")
            member.kill()
        }
    }

    /// Into the sandbox's own network namespace, on a thread that ends there.
    private static func connector(_ sandbox: Sandbox) -> SandboxConnector {
        { port, body in
            do throws(SyscallError) {
                try Thread.start(name: "telemetry") {
                    do throws(SyscallError) {
                        body(.success(try sandbox.connect(port: port, timeoutMs: 1000)))
                    } catch {
                        body(.failure(error))
                    }
                }
            } catch {
                body(.failure(error))
            }
        }
    }

    /// It asked for its first work: what it was given of the processor to start with ends here.
    private func ready(_ id: SandboxID) {
        let plan = member(id).flatMap { member in shared.withLock { $0.state.plan(member.function) } }
        if let plan { edit(id) { limits throws(CgroupError) in try limits.setCPU(plan.cpu) } }
        apply { state, now in state.started(id, now: now) }
    }

    private func watchOutput(_ member: PooledSandbox) {
        do {
            try member.watchOutput(events)
        } catch {
            // Nobody would read its pipe, and its first long output would be its last.
            log.error("the output of \(member.id) cannot be watched: \(error)")
            member.kill()
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

    /// The process has ended, asked for or not. Told on the kernel event thread.
    private func ended(_ member: PooledSandbox, _ status: ExitStatus) {
        member.whenHeardOut { [self] in bury(member, status) }
    }

    /// Runs on the kernel event thread or an event loop: what blocks is a worker's.
    private func bury(_ member: PooledSandbox, _ status: ExitStatus) {
        let report = member.exited(status)
        let wasStarting = shared.withLock { shared in
            if case .starting = shared.state.entries[member.id]?.phase { true } else { false }
        }
        if wasStarting {
            fail(member.id, .initFailed(report))
        } else {
            apply { state, now in state.exited(member.id, member.endCause(report), now: now) }
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

    private func edit(_ id: SandboxID, _ body: (LimitControl) throws(CgroupError) -> Void) {
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

    /// Hint, freeze, reclaim, lower: see `LimitControl.shrink`. A request that comes meanwhile stops it at the next step.
    private func shrink(_ id: SandboxID, _ order: ShrinkOrder) {
        // Under the pool's lock: a request that takes the sandbox from here on bumps `wakes` after this reading.
        let standing = shared.withLock { shared in
            shared.state.stands(order, for: id) ? shared.members[id].map { ($0, $0.limits.wakes) } : nil
        }
        guard let (member, wakes) = standing else { return }
        let before = member.sandbox.cgroup.memoryCurrent()
        if order.hints, !member.limits.isFrozen {
            member.hint(deadline: hintTimeout.withLock { $0 }) { member.limits.wakes == wakes }
        }
        do {
            let outcome = try member.limits.shrink(order, since: wakes, before: before, host: host.sample) {
                sensors.compression()
            }
            switch outcome {
            case .shrunk(let shrink):
                log.debug("shrunk \(id): \(shrink.before.rounded) to \(shrink.after.rounded) in \(shrink.took)")
                apply { state, now in state.shrunk(id, shrink, now: now) }
            case .stopped(let reason):
                log.debug("shrink of \(id) stopped: \(reason.rawValue)")
                let cause = reason == .woken ? ShrinkStop.woken : .wouldNotFreeze
                apply { state, now in state.shrinkStopped(id, reason.rawValue, cause: cause, now: now) }
            }
        } catch {
            // The group can vanish under the reclaimer: the process ended, and its end is told elsewhere.
            log.debug("shrink of \(id) failed: \(error)")
            apply { state, now in state.shrinkStopped(id, "\(error)", now: now) }
        }
    }
}
