// SPDX-License-Identifier: Apache-2.0
import Functions
import Policy
import Pool
import Settings
import Synchronization

/// The functions that can be invoked now, in memory: the registry's records under the settings in force.
///
/// Looked at by every request, so it is a dictionary behind a lock and never touches the disk. Whoever changes the
/// registry or the settings tells it, and it tells the pool.
package final class FunctionCatalog: Sendable {
    private struct Contents {
        var functions: [String: DeployedFunction] = [:]
        var settings: Settings
    }

    private let contents: Mutex<Contents>
    private let runtimes: RuntimeCatalog
    private let pool: SandboxPool

    package init(runtimes: RuntimeCatalog, settings: Settings, pool: SandboxPool) {
        contents = Mutex(Contents(settings: settings))
        self.runtimes = runtimes
        self.pool = pool
    }

    package subscript(name: String) -> DeployedFunction? { contents.withLock { $0.functions[name] } }

    package var settings: Settings { contents.withLock { $0.settings } }

    /// All functions, by name.
    package var all: [DeployedFunction] {
        contents.withLock { $0.functions.values.sorted { $0.name < $1.name } }
    }

    /// A record was written. A runtime that is gone makes the function unknown until it is back.
    @discardableResult
    package func put(_ record: FunctionRecord) -> DeployedFunction? {
        guard let runtime = runtimes.find(record.spec.runtime) else { return nil }
        let deployed = contents.withLock { contents in
            let deployed = DeployedFunction(record, runtime: runtime, settings: contents.settings)
            contents.functions[record.spec.name] = deployed
            return deployed
        }
        pool.setPlan(deployed.plan, live: deployed.live)
        return deployed
    }

    package func remove(_ name: String) {
        contents.withLock { _ = $0.functions.removeValue(forKey: name) }
        pool.removePlan(name)
    }

    /// New settings are in force: every function's limits are worked out anew, and the pool edits living sandboxes.
    package func apply(_ settings: Settings) {
        let changed = contents.withLock { contents in
            contents.settings = settings
            var changed: [DeployedFunction] = []
            for (name, old) in contents.functions {
                let new = DeployedFunction(old.record, runtime: old.runtime, settings: settings)
                contents.functions[name] = new
                if new != old { changed.append(new) }
            }
            return changed
        }
        for function in changed { pool.setPlan(function.plan, live: function.live) }
    }
}

extension DeployedFunction {
    /// What the pool has to know.
    package var plan: FunctionPlan {
        FunctionPlan(
            name: name,
            generation: record.codeGeneration,
            memory: memory.value,
            memoryLow: memoryLow,
            cpu: cpus.value,
            concurrency: concurrency.value,
            minWarm: minWarm.value,
            reclaims: reclaims,
            burst: memoryBurst,
            perSandbox: perSandbox.value
        )
    }

    /// What is edited in living sandboxes without the pool's decision.
    package var live: LiveLimits { LiveLimits(tmp: tmp.value, io: io) }
}
