// SPDX-License-Identifier: Apache-2.0
import Functions
import Policy
import Pool
import Settings
import Synchronization
import Units

/// The functions that can be invoked now, in memory: the registry's records under the settings in force.
///
/// Looked at by every request, so it is a dictionary behind a lock and never touches the disk. Whoever changes the
/// registry or the settings tells it, and it tells the pool.
package final class FunctionCatalog: Sendable {
    /// A function with its versions, as they run here. Replaced as a whole, and a class: each request looks one up.
    private final class Entry: Sendable {
        let registered: RegisteredFunction
        let latest: DeployedFunction
        /// By number. One whose runtime is gone is unknown until that is back.
        let versions: [String: DeployedFunction]

        init(registered: RegisteredFunction, latest: DeployedFunction, versions: [String: DeployedFunction]) {
            (self.registered, self.latest, self.versions) = (registered, latest, versions)
        }

        /// By the name of their plans.
        var all: [String: DeployedFunction] {
            Dictionary(uniqueKeysWithValues: ([latest] + versions.values).map { ($0.planName, $0) })
        }
    }

    private struct Contents {
        var functions: [String: Entry] = [:]
        var settings: Settings
        var environmentRevision = 0
    }

    private let contents: Mutex<Contents>
    /// Held from what is known of a function to what the pool is told of it, or the pool would be left with what an
    /// edit or a reload of the same moment had already replaced.
    private let telling = Mutex(())
    private let runtimes: RuntimeCatalog
    private let pool: SandboxPool
    private let random: @Sendable () -> Double
    private let hasExtensions: @Sendable (FunctionRecord) -> Bool

    /// - Parameters:
    ///   - hasExtensions: whether a function's code brings programs that are started before its runtime.
    ///   - random: where a request falls among the versions of an alias, from 0 up to 1.
    package init(
        runtimes: RuntimeCatalog,
        settings: Settings,
        pool: SandboxPool,
        hasExtensions: @escaping @Sendable (FunctionRecord) -> Bool = { _ in false },
        random: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }
    ) {
        contents = Mutex(Contents(settings: settings))
        self.runtimes = runtimes
        self.pool = pool
        self.hasExtensions = hasExtensions
        self.random = random
        prewarm(settings)
    }

    /// Tells the pool what it may start ahead.
    private func prewarm(_ settings: Settings) {
        for runtime in runtimes.all {
            guard let prewarm = runtime.prewarm else { continue }
            let plan = FunctionPlan(
                name: PlanName.prewarmed(runtime.name),
                generation: 0,
                memory: prewarm.memory,
                cpu: settings.defaults.cpus,
                concurrency: .max
            )
            pool.setPlan(plan, live: LiveLimits(prewarmedAt: prewarm.memory, settings.defaults))
        }
    }

    /// A function as it is deployed now.
    package subscript(name: String) -> DeployedFunction? { contents.withLock { $0.functions[name]?.latest } }

    /// What serves a request.
    ///
    /// - Parameter qualifier: a version's number or an alias; `nil` is what is deployed now.
    package func resolve(_ name: String, _ qualifier: String?) -> DeployedFunction? {
        contents.withLock { contents in
            guard let qualifier else { return contents.functions[name]?.latest }
            guard let entry = contents.functions[name] else { return nil }
            let version = entry.registered.aliases[qualifier]?.choose(random()) ?? qualifier
            return version == FunctionRecord.latest ? entry.latest : entry.versions[version]
        }
    }

    /// What becomes of a function's events.
    package func handling(_ name: String, _ qualifier: String?) -> EventHandling {
        contents.withLock { $0.functions[name]?.registered.handling(qualifier) } ?? EventHandling()
    }

    /// How a function answers at its own address; `nil` when nothing was said of that.
    package func url(_ name: String, _ qualifier: String?) -> UrlRecord? {
        contents.withLock { $0.functions[name]?.registered.urls[qualifier ?? FunctionRecord.latest] }
    }

    /// A function, or a version of one, by the name of its plan.
    package func planned(_ plan: String) -> DeployedFunction? {
        let (function, version) = (PlanName.function(plan), PlanName.version(plan))
        return contents.withLock { contents in
            version.map { contents.functions[function]?.versions[$0] } ?? contents.functions[function]?.latest
        }
    }

    package func runtime(_ name: String) -> RuntimeDefinition? { runtimes.find(name) }

    package var settings: Settings { contents.withLock { $0.settings } }

    /// The limits alone, which every request needs.
    var limits: Settings.Limits { contents.withLock { $0.settings.limits } }

    /// The largest answer of a function, in bytes.
    package var responseLimit: Int { contents.withLock { Int($0.settings.limits.response.count) } }

    var queueTimeout: Duration { contents.withLock { $0.settings.pools.queueTimeout } }

    /// All functions, by name.
    package var all: [DeployedFunction] {
        contents.withLock { $0.functions.values.map(\.latest).sorted { $0.name < $1.name } }
    }

    /// A function was written. A runtime that is gone makes it unknown until it is back.
    @discardableResult
    package func put(_ registered: RegisteredFunction) -> DeployedFunction? {
        telling.withLock { _ in tell(registered) }
    }

    private func tell(_ registered: RegisteredFunction) -> DeployedFunction? {
        let name = registered.latest.spec.name
        let (old, new) = contents.withLock { contents in
            let old = contents.functions[name]
            guard let new = entry(registered, contents) else { return (old, Entry?.none) }
            contents.functions[name] = new
            return (old, new)
        }
        guard let new else { return nil }
        tellPool(from: old?.all ?? [:], to: new.all)
        return new.latest
    }

    package func remove(_ name: String) {
        telling.withLock { _ in
            let old = contents.withLock { $0.functions.removeValue(forKey: name) }
            tellPool(from: old?.all ?? [:], to: [:])
        }
    }

    /// New settings are in force: every function's limits are worked out anew, and the pool edits living sandboxes.
    package func apply(_ settings: Settings) { telling.withLock { _ in tell(settings) } }

    private func tell(_ settings: Settings) {
        let changes = contents.withLock { contents in
            if settings.defaults.env != contents.settings.defaults.env { contents.environmentRevision += 1 }
            contents.settings = settings
            return contents.functions.keys.sorted()
                .compactMap { name -> (Entry, Entry)? in
                    guard let old = contents.functions[name], let new = entry(old.registered, contents) else {
                        return nil
                    }
                    contents.functions[name] = new
                    return (old, new)
                }
        }
        prewarm(settings)
        for (old, new) in changes { tellPool(from: old.all, to: new.all) }
    }

    private func entry(_ registered: RegisteredFunction, _ contents: Contents) -> Entry? {
        let settings = contents.settings
        guard let runtime = runtimes.find(registered.latest.spec.runtime) else { return nil }
        var latest = DeployedFunction(registered.latest, runtime: runtime, settings: settings)
        latest.isPrewarmable = latest.isPrewarmable && !hasExtensions(registered.latest)
        latest.environmentRevision = contents.environmentRevision
        let provisioned = registered.provisionedByVersion
        var versions: [String: DeployedFunction] = [:]
        for (number, record) in registered.versions {
            guard let runtime = runtimes.find(record.spec.runtime) else { continue }
            let count = provisioned[number] ?? 0
            var version = latest.version(record, runtime: runtime, settings: settings, provisioned: count)
            version.isPrewarmable = version.isPrewarmable && !hasExtensions(record)
            versions[number] = version
        }
        return Entry(registered: registered, latest: latest, versions: versions)
    }

    private func tellPool(from old: [String: DeployedFunction], to new: [String: DeployedFunction]) {
        for plan in old.keys where new[plan] == nil { pool.removePlan(plan) }
        for (plan, function) in new where old[plan] != function { pool.setPlan(function.plan, live: function.live) }
    }
}

extension DeployedFunction {
    /// Another number whenever running sandboxes have become outdated: by a deployment, or because what they may reach
    /// or what all receive is another by the operator's word. A network cannot be given to a sandbox that runs, nor
    /// safely taken from it; the environment of a process is its own.
    private var generation: Int {
        record.codeGeneration * 2 + (network.value == .egress ? 1 : 0) + (environmentRevision << 40)
    }

    /// What the pool has to know.
    package var plan: FunctionPlan {
        FunctionPlan(
            name: planName,
            generation: generation,
            memory: memory.value,
            memoryLow: memoryLow,
            cpu: cpus.value,
            concurrency: concurrency.value,
            minWarm: minWarm.value,
            provisioned: provisioned,
            reclaims: reclaims,
            burst: memoryBurst,
            perSandbox: perSandbox.value,
            prewarmed: isPrewarmable ? PlanName.prewarmed(runtime.name) : nil,
            startsWhole: runtime.program != nil
        )
    }

    /// What is edited in living sandboxes without the pool's decision.
    package var live: LiveLimits {
        LiveLimits(
            tmp: tmp.value,
            io: io,
            ioWeight: ioWeight,
            swap: swap ?? memory.value,
            high: memoryHigh,
            cpuWeight: cpuWeight,
            pids: pids
        )
    }
}

extension LiveLimits {
    /// Those of a runtime that is no function's yet.
    package init(prewarmedAt memory: Bytes, _ defaults: Settings.Defaults) {
        self.init(
            tmp: defaults.tmp,
            io: .none,
            ioWeight: defaults.ioWeight,
            swap: defaults.swap ?? memory,
            cpuWeight: defaults.cpuWeight,
            pids: defaults.pids
        )
    }
}
