// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Dispatching
import FnProtocol
import Linux
import Pool
import Settings
import Units

extension FunctionView {
    init(_ function: DeployedFunction, _ context: GatewayContext) {
        let record = function.record
        let origins = [
            "memory": function.memory.origin.rawValue, "cpus": function.cpus.origin.rawValue,
            "timeout": function.timeout.origin.rawValue, "tmp": function.tmp.origin.rawValue,
            "concurrency": function.concurrency.origin.rawValue, "min_warm": function.minWarm.origin.rawValue,
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
    }
}

extension SandboxPool {
    /// Every sandbox, with what the kernel says about it at this moment.
    func views(enforced: Bool) -> [SandboxView] {
        let now = MonotonicClock.now()
        return snapshot()
            .map { entry, held, member in
                var view = SandboxView(
                    id: entry.id.description,
                    function: entry.function,
                    state: entry.phase.word,
                    pid: member?.sandbox.pid ?? 0,
                    startTime: member?.sandbox.startTime ?? 0,
                    cgroup: member?.sandbox.cgroup.path ?? "",
                    held: held.count,
                    ageMs: (now - entry.startedAt) / 1_000_000,
                    invocations: entry.served,
                    limitsEnforced: enforced
                )
                view.pending = entry.pending?.count
                if entry.phase == .idle || entry.phase == .shrunk { view.idleMs = (now - entry.idleSince) / 1_000_000 }
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

    var ledgerView: LedgerView {
        let ledger = ledger
        let holders = ledger.promises.map { ($0.key.description, $0.value.count) }
        return LedgerView(
            budget: ledger.budget.count,
            promised: ledger.promised.count,
            free: ledger.free.count,
            holders: Dictionary(uniqueKeysWithValues: holders)
        )
    }
}

extension PoolState.Phase {
    /// The state's name, as users see it.
    var word: String {
        switch self {
        case .starting: "starting"
        case .idle: "idle"
        case .busy: "busy"
        case .shrinking: "shrinking"
        case .shrunk: "shrunk"
        case .stopping: "stopping"
        }
    }
}

extension ConfigView {
    init(_ loaded: LoadedSettings) {
        let values = loaded.values.map {
            Value(
                path: $0.path,
                value: $0.text,
                origin: $0.origin.description,
                live: Schema.find($0.path)?.isLive ?? false
            )
        }
        self.init(revision: loaded.revision, values: values)
    }
}
