// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Dispatching
import FnProtocol
import Functions
import Linux
import Policy
import Pool
import Settings
import Telemetry
import Units

extension FunctionView {
    init(_ function: DeployedFunction, _ context: GatewayContext) {
        let record = function.record
        let origins = [
            "memory": function.memory.origin.rawValue, "cpus": function.cpus.origin.rawValue,
            "timeout": function.timeout.origin.rawValue, "tmp": function.tmp.origin.rawValue,
            "concurrency": function.concurrency.origin.rawValue, "min_warm": function.minWarm.origin.rawValue,
            "per_sandbox": function.perSandbox.origin.rawValue, "network": function.network.origin.rawValue,
        ]
        let pending = context.pool.pending(function.name)
            .map {
                PendingLimit(
                    sandbox: $0.id.description,
                    file: "memory.max",
                    from: $0.held.count,
                    to: $0.wanted.count,
                    reason: "it uses more than that now; done at its next idle"
                )
            }
        self.init(
            name: function.name,
            runtime: record.spec.runtime,
            handler: record.spec.handler,
            description: record.spec.description,
            version: record.version,
            memory: function.memory.value.count,
            cpus: function.cpus.value.millis,
            timeoutMs: function.timeout.value.milliseconds,
            tmp: function.tmp.value.count,
            concurrency: function.concurrency.value,
            minWarm: function.minWarm.value,
            perSandbox: function.perSandbox.value,
            network: function.network.value.rawValue,
            origins: origins,
            env: record.spec.env,
            codeSha256: record.codeSHA256,
            codeSize: record.codeSize,
            revision: record.revision,
            revisionId: record.revisionID,
            lastModified: WallClock.iso8601(record.lastModifiedMs),
            limitsEnforced: context.limitsEnforced,
            pending: pending,
            sandboxes: context.pool.count(of: function.name)
        )
        memoryBurst = function.memoryBurst > function.memory.value ? function.memoryBurst.count : nil
        memoryHigh = function.memoryHigh?.count
        memoryLow = function.memoryLow > .zero ? function.memoryLow.count : nil
        (ioRead, ioWrite) = (function.io.read?.count, function.io.write?.count)
        (cpuWeight, ioWeight, pids) = (function.cpuWeight, function.ioWeight, function.pids)
        reclaims = function.reclaims
        image = record.spec.image.map { ImageView($0) }
        httpPort = record.spec.httpPort ?? function.runtime.httpPort
        let now = WallClock.nowMs()
        events = EventHandlingView(record.spec.events, context.catalog.settings.defaults)
        schedules = record.spec.schedules.map { ScheduleView($0, of: function.name, now: now) }
    }
}

extension ImageView {
    init(_ image: ImageSettings) {
        self.init(
            id: image.id,
            platform: image.platform,
            layers: image.layers,
            entrypoint: image.entrypoint,
            command: image.command,
            workingDirectory: image.workingDirectory,
            environment: image.environment,
            exposedPorts: image.exposedPorts,
            user: image.user,
            stopSignal: image.stopSignal
        )
    }
}

extension GatewayContext {
    /// Every sandbox, with what the kernel says about it at this moment.
    var sandboxViews: [SandboxView] {
        let (now, enforced) = (MonotonicClock.now(), limitsEnforced)
        return pool.snapshot()
            .map { entry, held, member in
                var view = SandboxView(
                    id: entry.id.description,
                    function: entry.owner,
                    state: entry.stateWord,
                    pid: member?.sandbox.pid ?? 0,
                    startTime: member?.sandbox.startTime ?? 0,
                    cgroup: member?.sandbox.cgroup.path ?? "",
                    held: held.count,
                    ageMs: (now - entry.startedAt) / 1_000_000,
                    invocations: entry.served,
                    limitsEnforced: enforced
                )
                view.version = PlanName.version(entry.function)
                view.runtime = PlanName.runtime(entry.function)
                if let function = catalog.planned(entry.function) {
                    view.runtime = function.record.spec.image == nil ? function.runtime.name : "image"
                }
                view.pending = entry.pending?.count
                if entry.phase == .idle || entry.phase == .shrunk { view.idleMs = (now - entry.idleSince) / 1_000_000 }
                view.address = member?.sandbox.address?.description
                view.network = member.map { ($0.sandbox.address == nil ? NetworkAccess.none : .egress).rawValue }
                guard let group = member?.sandbox.cgroup else { return view }
                view.current = group.memoryCurrent()?.count
                view.high = group.memoryHigh()?.count
                view.max = group.memoryMax()?.count
                view.swap = group.swapCurrent()?.count
                view.peak = group.memoryPeak()?.count
                view.cpuMillis = group.cpuMax()?.millis
                view.pressureSome = group.memoryPressure()?.some.avg10
                view.lastRequestId = member?.lastRequestID
                return view
            }
    }
}

extension SandboxPool {
    var ledgerView: LedgerView {
        let ledger = ledger
        let holders = ledger.promises.map { ($0.key.description, $0.value.count) }
        var view = LedgerView(
            budget: ledger.budget.count,
            promised: ledger.promised.count,
            free: ledger.free.count,
            holders: Dictionary(uniqueKeysWithValues: holders)
        )
        view.host = hostView
        view.functions = functionViews
        view.flows = flows.map { LedgerView.Flow(from: $0.key.from, to: $0.key.to, bytes: $0.value.count) }
            .sorted { ($0.bytes, $0.from) > ($1.bytes, $1.from) }
        return view
    }

    var hostView: LedgerView.Host? {
        let (sample, tier) = host
        return sample.map { sample in
            LedgerView.Host(
                tier: tier.description,
                available: sample.available.count,
                swap: (sample.swapFree.count, sample.swapTotal.count),
                compression: sample.compression,
                stalls: (sample.some * 100, sample.full * 100)
            )
        }
    }

    private var functionViews: [LedgerView.Function] {
        var views: [String: LedgerView.Function] = [:]
        for (name, profile) in profiles {
            var view = LedgerView.Function(name: name)
            view.wakes = profile.wakes
            view.refaultedPages = profile.refaultedPages
            view.wakePenaltyMs = (profile.wakePenaltyTotal / 10).rounded() / 100
            view.depth = profile.depth
            views[name] = view
        }
        for (entry, held, member) in snapshot() {
            var view = views[entry.function] ?? LedgerView.Function(name: entry.function)
            view.sandboxes += 1
            view.held += held.count
            view.current += member?.sandbox.cgroup.memoryCurrent()?.count ?? 0
            view.swap += member?.sandbox.cgroup.swapCurrent()?.count ?? 0
            views[entry.function] = view
        }
        for (flow, bytes) in flows { views[flow.from]?.reclaimed += bytes.count }
        return views.values.sorted { $0.name < $1.name }
    }
}

extension PoolState.Entry {
    /// The state's name, as users see it.
    var stateWord: String {
        switch phase {
        case .starting: "starting"
        case .idle: isFrozen ? "frozen" : "idle"
        case .busy: "busy"
        case .shrinking: "shrinking"
        case .shrunk: "shrunk"
        case .stopping: "stopping"
        }
    }
}

extension ConfigView {
    package init(_ loaded: LoadedSettings) {
        let values = (loaded.values + loaded.entries)
            .map {
                Value(
                    path: $0.path,
                    value: $0.text,
                    origin: $0.origin.description,
                    live: SettingsSource.isLive($0.path)
                )
            }
        self.init(revision: loaded.revision, values: values)
    }
}

extension ReloadView {
    init(_ changes: [SettingsChange]) {
        let views = changes.map {
            Change(path: $0.path, old: $0.old, new: $0.new, applied: $0.isApplied ? "live" : "needs-restart")
        }
        self.init(accepted: true, changes: views, errors: [])
    }

    init(_ errors: SettingsErrors) {
        self.init(accepted: false, changes: [], errors: errors.problems.map(\.description))
    }
}

extension DecisionView {
    init(_ logged: LoggedDecision) {
        let decision = logged.decision
        self.init(
            seq: logged.sequence,
            time: WallClock.iso8601(logged.time),
            kind: decision.kind.rawValue,
            reason: decision.reason,
            numbers: Dictionary(decision.numbers.map { ($0.name, $0.value) }) { $1 }
        )
        sandbox = decision.sandbox?.description
        request = decision.request
        function = decision.function
    }
}

extension EventView {
    init(_ event: QueuedEvent, withContents: Bool) {
        self.init(
            id: event.id,
            function: event.function,
            state: event.state.rawValue,
            accepted: WallClock.iso8601(event.acceptedMs),
            attempts: event.attempts
        )
        due = event.state == .queued ? WallClock.iso8601(event.dueMs) : nil
        destination = event.target
        finished = event.finishedMs.map { WallClock.iso8601($0) }
        reason = event.reason
        guard withContents else { return }
        payload = String(decoding: event.payload, as: UTF8.self)
        result = event.result.map { String(decoding: $0, as: UTF8.self) }
    }
}
