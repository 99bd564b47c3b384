// SPDX-License-Identifier: Apache-2.0
import Units

/// Sandboxes that are kept without a request: `min_warm`, and what was provisioned.
extension PoolState {
    /// How many of a plan's provisioned sandboxes there are.
    func provisioned(_ plan: String) -> Int {
        entries.values.count { $0.function == plan && $0.isProvisioned && $0.phase != .stopping && isCurrent($0) }
    }

    /// How far provisioning a plan has got.
    package func provisioning(_ plan: String) -> Provisioning {
        var provisioning = Provisioning(failures: failedStarts[plan]?.count ?? 0)
        for entry in entries.values where entry.function == plan && entry.isProvisioned && isCurrent(entry) {
            switch entry.phase {
            case .starting, .stopping: break
            case .busy: provisioning.started += 1
            case .idle, .shrinking, .shrunk:
                provisioning.started += 1
                provisioning.free += 1
            }
        }
        return provisioning
    }

    /// Whether a sandbox may go without another one having to be started in its place.
    func isSpare(_ entry: Entry) -> Bool {
        guard let plan = plans[entry.function] else { return true }
        if entry.isProvisioned, provisioned(plan.name) <= plan.provisioned { return false }
        return live(plan.name) > plan.minWarm
    }

    mutating func keepWarm(now: Instant) -> [PoolEffect] {
        guard !isShuttingDown, tier < .orange, waiting.isEmpty else { return [] }
        var effects: [PoolEffect] = []
        let keepers = plans.values.filter { $0.minWarm > 0 || $0.provisioned > 0 }
        for plan in keepers.sorted(by: { $0.name < $1.name }) {
            guard let reason = lack(plan), failedStarts[plan.name]?.retryAt ?? now <= now,
                taken(plan.function) < plan.concurrency, entries.count < limits.maxSandboxes,
                fits(chargeWhileRunning(plan.name, at: plan.memory))
            else { continue }
            effects.append(startSandbox(plan, plan.memory, for: nil, reason: reason, now: now))
        }
        return effects
    }

    /// Why a plan needs another sandbox, if it does.
    private func lack(_ plan: FunctionPlan) -> String? {
        if plan.provisioned > 0, plan.provisioned > provisioned(plan.name) {
            return "\(plan.provisioned) are provisioned"
        }
        return plan.minWarm > 0 && plan.minWarm > live(plan.name) ? "min_warm is \(plan.minWarm)" : nil
    }

    /// A program that cannot start is not started four times a second for ever: the pause doubles up to a minute.
    mutating func noteFailedStart(_ entry: Entry, now: Instant) {
        let count = (failedStarts[entry.function]?.count ?? 0) + 1
        failedStarts[entry.function] = (count, now + min(60, 1 << Instant(min(count, 6))) * 1_000_000_000)
    }
}

/// How far the sandboxes that a plan provisions are.
package struct Provisioning: Sendable, Equatable {
    /// They asked for work.
    package var started = 0
    /// They wait for it now.
    package var free = 0
    /// Starts in a row that failed.
    package var failures = 0

    package init(started: Int = 0, free: Int = 0, failures: Int = 0) {
        self.started = started
        self.free = free
        self.failures = failures
    }
}
