// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import NIOCore
import Policy
import Reclaim
import Units

/// The clock and the senses of the pool: what is due by time, how the host is, what busy sandboxes use.
extension SandboxPool {
    struct Sensing {
        var tasks: [RepeatedTask] = []
        var trigger: PressureTrigger?
        var lastSample: Instant = 0
        var lastReconciled: Instant = 0
        var prefetches = 0

        mutating func beginPrefetch() -> Bool {
            guard prefetches < 2 else { return false }
            prefetches += 1
            return true
        }
    }

    /// Starts to look: ten times a second at what is due; at the host every `reclaim.interval`, as often as the clock
    /// while it hurts, and at once when the kernel says that tasks stall.
    ///
    /// - Parameter pressureFile: `memory.pressure` of the pool's group.
    package func start(pressureFile: String?) {
        let loop = group.next()
        let clock = loop.scheduleRepeatedTask(initialDelay: .milliseconds(100), delay: .milliseconds(100)) { [self] _ in
            apply { state, now in state.tick(now: now) }
            sense(atMostEvery: host.tier >= .orange ? .zero : pace.withLock { $0.interval })
            reconcile()
            // Only where somebody may outgrow something; else the daemon would wake a hundred times a second for nothing.
            guard shared.withLock({ $0.state.needsWatch }) else { return }
            for part in 0..<10 {
                loop.scheduleTask(in: .milliseconds(Int64(part) * 10)) { [weak self] in self?.watchBusy() }
            }
        }
        let trigger = pressureFile.flatMap { file in
            PressureTrigger(file, events: events) { [weak self] in self?.sense(atMostEvery: .milliseconds(20)) }
        }
        sensing.withLock { sensing in
            sensing.tasks = [clock]
            sensing.trigger = trigger
        }
    }

    func stopSensing() {
        let (tasks, trigger) = sensing.withLock { ($0.tasks, $0.trigger) }
        for task in tasks { task.cancel() }
        trigger?.cancel()
    }

    private func sense(atMostEvery pause: Duration) {
        let now = MonotonicClock.now()
        let isDue = sensing.withLock { sensing in
            guard now - sensing.lastSample >= Int64(pause.seconds * 1e9) else { return false }
            sensing.lastSample = now
            return true
        }
        guard isDue, let sample = sensors.sample() else { return }
        apply { state, now in state.sensed(sample, now: now) }
    }

    /// Busy sandboxes whose limit may run ahead of their use, a hundred times a second: memory grows by 10 to 30 MiB
    /// between two looks, less than the headroom, and what does outrun it meets its own swap before the kernel kills.
    private func watchBusy() {
        let members = shared.withLock { shared in
            shared.state.needsWatch ? shared.state.watched.compactMap { shared.members[$0] } : []
        }
        for member in members {
            guard let current = member.sandbox.cgroup.memoryCurrent() else { continue }
            apply { state, now in state.used(member.id, current, now: now) }
        }
    }

    /// Every five seconds: the kernel's limits are compared with what was decided. Somebody else's edit is undone, and
    /// said; what did not fit before is tried again. Who goes on with an invocation beyond its deadline is ended, and who
    /// cannot be ended is given up.
    private func reconcile() {
        let now = MonotonicClock.now()
        let isDue = sensing.withLock { sensing in
            guard now - sensing.lastReconciled >= 5_000_000_000 else { return false }
            sensing.lastReconciled = now
            return true
        }
        guard isDue else { return }
        onReclaimer { pool in
            for member in pool.shared.withLock({ Array($0.members.values) }) {
                member.retryTmp()
                if member.isOverdue(now) {
                    pool.log.notice("\(member.id) was answered and did not ask for its next event in time")
                    member.end(.timeout)
                }
                if member.isStuck(now) {
                    pool.log.error("\(member.id) was killed and does not end: a process of it waits inside the kernel")
                    pool.bury(member, .signaled(9))
                }
                guard let found = member.limits.reconcile() else { continue }
                pool.log.warning("memory.max of \(member.id) was \(found): changed by somebody else, and changed back")
                pool.apply { state, now in state.drifted(member.id, found: Bytes(found), now: now) }
            }
        }
    }
}
