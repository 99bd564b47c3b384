// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Functions
import Policy
import Settings
import Units

/// A function as it runs here: what was deployed, the operator's word over it, and the ceilings over both.
package struct DeployedFunction: Sendable, Equatable {
    package var record: FunctionRecord
    package var runtime: RuntimeDefinition
    package var memory: Effective<Bytes>
    package var memoryLow: Bytes
    package var swap: Bytes?
    /// `memory.high` while it runs; `nil` is `max`.
    package var memoryHigh: Bytes?
    /// Never below `memory`, never above the ceiling.
    package var memoryBurst: Bytes
    package var initCPU: CPUQuota
    package var io: IOLimits
    package var ioWeight: Int
    package var cpus: Effective<CPUQuota>
    package var cpuWeight: Int
    package var pids: Int
    package var tmp: Effective<Bytes>
    package var timeout: Effective<Duration>
    package var initTimeout: Duration
    package var concurrency: Effective<Int>
    package var minWarm: Effective<Int>
    package var perSandbox: Effective<Int>
    package var network: Effective<NetworkAccess>
    /// Sandboxes that are started ahead and told so; of published versions only.
    package var provisioned = 0
    package var reclaims: Bool
    package var environment: [String: String]
    /// How often the operator has changed what every function receives.
    package var environmentRevision = 0
    /// Whether a runtime that was started ahead can become this function's: nothing of it has to be there at the start.
    package var isPrewarmable: Bool

    package var name: String { record.spec.name }

    /// What the pool calls it.
    package var planName: String {
        PlanName.make(name, version: record.version == FunctionRecord.latest ? nil : record.version)
    }
}

/// A value and whose word it is.
package struct Effective<Value: Sendable & Equatable>: Sendable, Equatable {
    /// Who decided.
    package enum Origin: String, Sendable {
        case function
        case `default`
        case `operator`
        case limit
    }

    package var value: Value
    package var origin: Origin

    /// Operator over function over default; never above the ceiling.
    package init(operator word: Value?, function: Value?, default fallback: Value, ceiling: Value)
    where Value: Comparable {
        if let word {
            (value, origin) = (word, .operator)
        } else if let function {
            (value, origin) = (function, .function)
        } else {
            (value, origin) = (fallback, .default)
        }
        if value > ceiling { (value, origin) = (ceiling, .limit) }
    }
}

extension DeployedFunction {
    /// What `record` comes to under these settings.
    package init(_ record: FunctionRecord, runtime: RuntimeDefinition, settings: Settings) {
        let spec = record.spec
        let word = settings.functions.override(for: spec.name)
        let (defaults, limits) = (settings.defaults, settings.limits)
        self.record = record
        self.runtime = runtime
        memory = Effective(
            operator: word.memory,
            function: spec.memory,
            default: defaults.memory,
            ceiling: limits.memory
        )
        memoryLow = word.memoryLow ?? defaults.memoryLow
        swap = defaults.swap
        memoryHigh = word.memoryHigh ?? defaults.memoryHigh
        ioWeight = word.ioWeight ?? defaults.ioWeight
        let burst = (word.memoryBurst ?? spec.memoryBurst ?? defaults.memoryBurst) ?? .zero
        memoryBurst = min(max(burst, memory.value), limits.memory)
        io = IOLimits(read: word.ioRead ?? defaults.ioRead, write: word.ioWrite ?? defaults.ioWrite)
        cpus = Effective(operator: word.cpus, function: spec.cpus, default: defaults.cpus, ceiling: limits.cpus)
        initCPU = max(defaults.initCPUs ?? cpus.value, cpus.value)
        cpuWeight = word.cpuWeight ?? defaults.cpuWeight
        pids = word.pids ?? defaults.pids
        tmp = Effective(operator: word.tmp, function: spec.tmp, default: defaults.tmp, ceiling: limits.memory)
        timeout = Effective(
            operator: word.timeout,
            function: spec.timeoutMs.map { .milliseconds($0) },
            default: defaults.timeout,
            ceiling: limits.timeout
        )
        initTimeout = defaults.initTimeout
        concurrency = Effective(
            operator: word.concurrency,
            function: spec.concurrency,
            default: defaults.concurrency,
            ceiling: limits.concurrency
        )
        minWarm = Effective(operator: word.minWarm, function: spec.minWarm, default: defaults.minWarm, ceiling: .max)
        perSandbox = Effective(
            operator: word.perSandbox,
            function: spec.perSandbox,
            default: defaults.perSandbox,
            ceiling: .max
        )
        network = Effective(
            operator: word.network,
            function: spec.network,
            default: defaults.network,
            ceiling: settings.network.egress == .allow ? .egress : .none
        )
        reclaims = word.reclaim ?? true
        let environment = defaults.env.merging(spec.env) { _, own in own }
        self.environment = environment
        isPrewarmable =
            perSandbox.value == 1 && pids == defaults.pids && record.layersDigest == nil
            && spec.proc ?? runtime.proc == runtime.proc && network.value == .none && spec.image == nil
            && runtime.prewarm.map { prewarm in !environment.keys.contains { prewarm.reads($0) } } ?? false
    }

    /// A published version of it. What is said of a function as a whole is said of its versions too; what is kept warm
    /// of a version is what is provisioned for it.
    func version(_ record: FunctionRecord, runtime: RuntimeDefinition, settings: Settings, provisioned: Int) -> Self {
        var version = DeployedFunction(record, runtime: runtime, settings: settings)
        version.concurrency = concurrency
        version.environmentRevision = environmentRevision
        version.minWarm = Effective(operator: nil, function: 0, default: 0, ceiling: .max)
        version.provisioned = provisioned
        return version
    }
}
