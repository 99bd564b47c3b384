// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Glibc
import Linux
import NIOCore
import Policy
import Reclaim
import RuntimeAPI
import Sandbox
import Synchronization
import Units

/// How sandboxes begin: for a function, or ahead of one and assigned later.
extension SandboxPool {
    func launch(_ id: SandboxID, _ function: String, _ contract: Bytes) {
        let began = MonotonicClock.now()
        do {
            let isProvisioned = shared.withLock { $0.state.entries[id]?.isProvisioned } ?? false
            let made = try factory.start(id, function, contract, isProvisioned)
            adopt(made, id, function, contract, launchedAt: began)
        } catch {
            log.error("sandbox \(id) could not be started: \(error)")
            fail(id, Self.outcome(of: error, contract, launchedAt: began))
            apply { state, now in state.removed(id, now: now) }
        }
    }

    /// What a request is told whose sandbox could not be made: mostly that this is not its function's doing.
    private static func outcome(of error: any Error, _ contract: Bytes, launchedAt: Instant) -> LeaseOutcome {
        guard case SandboxError.setup(.workingDirectory, let cause) = error,
            [ENOENT, ENOTDIR, ELOOP, EACCES].contains(cause.errno)
        else { return .cannotStart("\(error)") }
        let fault = FunctionFault(
            type: "Runtime.InvalidWorkingDir",
            reason: "the image's working directory cannot be entered: \(cause.reason)"
        )
        let times = StartTimes(launch: launchedAt, created: MonotonicClock.now())
        return .initFailed(
            SandboxExit(
                status: .exited(1),
                outOfMemory: false,
                limit: contract,
                logTail: [],
                fault: fault,
                start: times
            )
        )
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
            made.identity ?? .unassigned,
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
            live: made.live,
            output: output,
            extensionOutput: extensionOutput,
            telemetry: telemetry,
            launchedAt: launchedAt,
            onRemoval: made.onRemoval,
            onEnding: { [weak self] cause in self?.apply { state, now in state.exited(id, cause, now: now) } },
            onWaiting: { [weak self] isFirst, call in
                guard let self else { return }
                guard !isFirst else { return ready(id) }
                apply { state, now in state.finished(id, call, now: now) }
                if let call, call.refaultedPages > 256 { onReclaimer { $0.member(id)?.recordWorkingSet() } }
            }
        )
        let (isUnwanted, live) = shared.withLock { shared in
            shared.members[id] = member
            return (shared.state.entries[id]?.phase == .stopping, shared.live[function])
        }
        // What was changed while it was made, nobody else tells it.
        member.edit(live ?? made.live, devices, log)
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
    func assign(_ id: SandboxID, _ function: String, _ contract: Bytes) {
        // One that has ended meanwhile is told as such.
        guard let member = member(id), !member.hasExited else { return }
        do {
            _ = try member.limits.wake(at: contract, low: .zero, cpu: member.limits.cpu)
            let assignment = try factory.assign(member.sandbox, id, function)
            member.become(function, onRemoval: assignment.onRemoval)
            member.telemetry.become(assignment.identity)
            member.telemetry.started(memory: contract.count)
            member.has(assignment.live)
            member.setTmp(assignment.live.tmp, log)
            try member.limits.setBrake(assignment.live.high)
            try member.limits.setCPU(assignment.cpu)
            member.announce(memory: contract, cpu: assignment.announcedCPU)
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

    func fail(_ id: SandboxID, _ outcome: LeaseOutcome) {
        failing(id, outcome) { state, now in state.startFailed(id, now: now) }
    }

    /// Tells the state that a sandbox ended. `outcome` is for the request that it was started for, if it was starting.
    func failing(_ id: SandboxID, _ outcome: LeaseOutcome, _ event: (inout PoolState, Instant) -> [PoolEffect]) {
        shared.withLock { $0.failures[id] = outcome }
        apply(event)
        shared.withLock { _ = $0.failures.removeValue(forKey: id) }
    }

    func tellStartFailure(_ token: LeaseToken, _ id: SandboxID) {
        let outcome = shared.withLock { $0.failures[id] }
        caller(token)?(outcome ?? .cannotStart("sandbox \(id) ended while it started"))
    }
}
