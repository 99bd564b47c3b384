// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Glibc
import Linux
import Policy
import Synchronization
import Units

/// Edits the limits of one living sandbox, in the only orders that are safe.
///
/// Three things may happen at once: a request wakes the sandbox, the reclaimer shrinks it, an operator resizes it. All
/// writes to its files go through one lock, which is never held across a reclaim; a wake bumps `wakes`, and whoever
/// took memory looks at that number before each further step.
package final class LimitControl: Sendable {
    private struct Files {
        /// `memory.max` as last written.
        var max: Bytes
        /// `memory.high` as last written; `nil` is `max`.
        var high: Bytes?
        /// What the operator wants it to be while the sandbox runs; `nil` is `max`.
        var wantedHigh: Bytes?
        var low = Bytes.zero
        var cpu: CPUQuota?
        var frozen = false
        /// How often the sandbox was woken or grown; a shrink that sees it change stops.
        var wakes: UInt64 = 0
        var changes: [LimitChange: Int64] = [:]

        /// `memory.high` as it is to be while the sandbox runs within `max`.
        var runningHigh: Bytes? { wantedHigh.flatMap { $0 < max ? $0 : nil } }

        mutating func note(_ file: String, _ direction: LimitChange.Direction) {
            changes[LimitChange(file: file, direction), default: 0] += 1
        }
    }

    package let cgroup: Cgroup
    private let files: Mutex<Files>
    private let cpus: Int

    /// - Parameters:
    ///   - max: `memory.max` as the sandbox was started with.
    ///   - cpu: `cpu.max` as the sandbox was started with.
    package init(_ cgroup: Cgroup, max: Bytes, cpu: CPUQuota?, cpus: Int) {
        self.cgroup = cgroup
        self.cpus = cpus
        files = Mutex(Files(max: max, cpu: cpu))
    }

    /// `memory.max` as last written by us.
    package var memoryMax: Bytes { files.withLock { $0.max } }

    /// `cpu.max` as last written by us.
    package var cpu: CPUQuota? { files.withLock { $0.cpu } }

    /// How often each limit was edited since the sandbox was started.
    package var changes: [LimitChange: Int64] { files.withLock { $0.changes } }

    /// Whether the sandbox is frozen.
    package var isFrozen: Bool { files.withLock { $0.frozen } }

    // MARK: Up

    /// Makes the sandbox ready to run at `contract`: stops a shrink in progress, raises, thaws.
    ///
    /// `memory.max` first, then `memory.high`, or the thawed process would sleep in the kernel's over-high penalty,
    /// which raising the limit does not end (mm/memcontrol.c, `mem_cgroup_handle_over_high`). Thaw last.
    /// - Returns: what had to be done; a `thaw` is in it if the sandbox was frozen.
    /// - Throws: when the kernel refuses, as when the group is gone.
    package func wake(at contract: Bytes, low: Bytes, cpu: CPUQuota?) throws(CgroupError) -> [LimitStep] {
        try files.withLock { files throws(CgroupError) in
            files.wakes += 1
            var steps: [LimitStep] = []
            if contract > files.max || files.high != files.runningHigh {
                let (began, before) = (MonotonicClock.now(), files.max)
                try raise(&files, to: contract)
                steps.append(LimitStep(.grow, began: began, ended: MonotonicClock.now(), from: before, to: files.max))
            }
            if files.low != low {
                try cgroup.setMemoryLow(low)
                files.low = low
            }
            try setCPU(&files, cpu)
            guard files.frozen else { return steps }
            let began = MonotonicClock.now()
            try cgroup.thaw()
            files.frozen = false
            steps.append(LimitStep(.thaw, began: began, ended: MonotonicClock.now()))
            return steps
        }
    }

    /// Lets a sandbox that is frozen or being shrunk run on within the `memory.max` that it has.
    package func resume() throws(CgroupError) {
        try files.withLock { files throws(CgroupError) in
            files.wakes += 1
            try raise(&files, to: files.max)
            guard files.frozen else { return }
            try cgroup.thaw()
            files.frozen = false
        }
    }

    /// Raises a running sandbox's `memory.max`; does nothing when it is as high already.
    package func grow(to contract: Bytes) throws(CgroupError) {
        try files.withLock { files throws(CgroupError) in
            files.wakes += 1
            try raise(&files, to: contract)
        }
    }

    /// Writes `cpu.max`, only if it changes: each write refills a whole quota (kernel/sched/core.c, `tg_set_cfs_bandwidth`).
    package func setCPU(_ cpu: CPUQuota?) throws(CgroupError) {
        try files.withLock { files throws(CgroupError) in try setCPU(&files, cpu) }
    }

    private func raise(_ files: inout Files, to contract: Bytes) throws(CgroupError) {
        if contract > files.max {
            try cgroup.setMemoryMax(contract)
            files.max = contract
            files.note("memory.max", .up)
        }
        try setHigh(&files, files.runningHigh)
    }

    private func setHigh(_ files: inout Files, _ high: Bytes?) throws(CgroupError) {
        guard files.high != high else { return }
        try cgroup.setMemoryHigh(high)
        let isLower = high.map { new in files.high.map { new < $0 } ?? true } ?? false
        files.note("memory.high", isLower ? .down : .up)
        files.high = high
    }

    /// Brakes the sandbox above this much while it runs, as its operator asks; `nil` is no brake.
    ///
    /// What it holds above that is taken first, in steps that a request does not wait for: the kernel would do it in the
    /// write itself, under our lock.
    package func setBrake(_ high: Bytes?) throws(CgroupError) {
        let wakes: UInt64? = files.withLock { files in
            guard files.wantedHigh != high else { return nil }
            files.wantedHigh = high
            return files.wakes
        }
        guard let wakes else { return }
        if let high, let current = cgroup.memoryCurrent(), current > high {
            try reclaim(current - high, swappiness: nil, step: 0.25) { files.withLock { $0.wakes } == wakes }
        }
        try files.withLock { files throws(CgroupError) in
            // One that is frozen has it when it is woken.
            if !files.frozen { try setHigh(&files, files.runningHigh) }
        }
    }

    private func setCPU(_ files: inout Files, _ cpu: CPUQuota?) throws(CgroupError) {
        guard files.cpu != cpu else { return }
        try cgroup.setCPUMax(cpu)
        let isLower = cpu.map { new in files.cpu.map { new < $0 } ?? true } ?? false
        files.note("cpu.max", isLower ? .down : .up)
        files.cpu = cpu
    }

    /// Compares the kernel's `memory.max` with what was written last, and writes that again where it differs.
    ///
    /// Upwards always; downwards only where what is used fits, or this would kill.
    /// - Returns: what was found in the file, when it differed.
    package func reconcile() -> String? {
        files.withLock { files in
            guard cgroup.controllers.contains(.memory), let found = cgroup.memoryMaxText() else { return nil }
            let limit = Bytes(found)
            // The kernel counts in pages, and keeps whole ones of what it is told.
            guard limit.map(Self.wholePages) != Self.wholePages(files.max) else { return nil }
            let isHigher = limit.map { $0 > files.max } ?? true
            if isHigher, let current = cgroup.memoryCurrent(), current + margin > files.max { return nil }
            guard (try? cgroup.setMemoryMax(files.max)) != nil else { return nil }
            return found
        }
    }

    private static func wholePages(_ size: Bytes) -> Int64 { size.count / Int64(getpagesize()) }

    // MARK: Down

    /// Lowers `memory.max` of a sandbox that may be running, if what it uses fits; never kills.
    ///
    /// Takes back first what reclaim can get, then freezes for the moment of the check: a frozen group cannot charge,
    /// so nothing can grow between the look and the write.
    /// - Returns: `memory.max` as it is afterwards: `contract`, or what it was when usage does not fit.
    package func lower(to contract: Bytes) throws(CgroupError) -> Bytes {
        let wakes = files.withLock { $0.wakes }
        if let current = cgroup.memoryCurrent(), current + margin > contract {
            try reclaim(current + margin - contract, swappiness: nil, step: 0.25) {
                files.withLock { $0.wakes } == wakes
            }
        }
        return try files.withLock { files throws(CgroupError) in
            guard files.wakes == wakes, contract < files.max else { return files.max }
            let wasFrozen = files.frozen
            if !wasFrozen { try cgroup.freeze() }
            defer { if !wasFrozen { try? cgroup.thaw() } }
            guard wasFrozen || cgroup.waitFrozen(timeout: .milliseconds(50)) else { return files.max }
            if let current = cgroup.memoryCurrent(), current + margin > contract { return files.max }
            try cgroup.setMemoryMax(contract)
            files.max = contract
            files.note("memory.max", .down)
            return contract
        }
    }

    /// What is left between usage and a contract that it is said to fit: two CPUs' worth of cached charges.
    private var margin: Bytes { .kib(512 * Int64(cpus)) }

    /// Freezes an idle sandbox, takes its memory down as ordered, and lowers its limits to what is left.
    ///
    /// The order is the safety: frozen, it cannot allocate; `memory.reclaim` is bounded and throttles nobody; the
    /// limits come last, from a fresh reading, with slack. Every step looks whether a request has woken it.
    /// - Parameters:
    ///   - since: `wakes` when the shrink was decided; another number now stops it.
    ///   - before: `memory.current` before the runtime was asked to give back what it does not need.
    ///   - host: how much swap there is, and how long tasks wait for disks.
    ///   - compression: tells what a swapped byte costs in RAM; asked at the end.
    package func shrink(
        _ order: ShrinkOrder,
        since wakes: UInt64,
        before: Bytes?,
        host: HostSample?,
        tuning: ReclaimTuning,
        compression: () -> Double
    ) throws(CgroupError) -> ShrinkOutcome {
        let hinted = cgroup.memoryCurrent() ?? .zero
        let started = MonotonicClock.now()
        let unwoken: () -> Bool = { self.files.withLock { $0.wakes } == wakes }

        guard try freeze(unlessWokenSince: wakes) else { return .stopped(.woken) }
        guard cgroup.waitFrozen(timeout: .milliseconds(200)) else {
            // Uninterruptible sleep or vfork can hold the freezer up without bound: leave this one alone.
            try files.withLock { files throws(CgroupError) in
                guard files.wakes == wakes else { return }
                try cgroup.thaw()
                files.frozen = false
            }
            return .stopped(.wouldNotFreeze)
        }
        if let stat = cgroup.memoryStat() {
            // Anonymous pages first: text that is gone costs ten times as much at the next wake. Not when swap is
            // nearly full; then the next sandbox would find no room at all.
            let shared = stat["shmem"] ?? 0
            let anonymous = Bytes((stat["anon"] ?? 0) + shared) * order.depth
            let swapStop = tuning.swapStop
            let hasSwap = host.map { $0.swapTotal > .zero && $0.swapFree > $0.swapTotal * (1 - swapStop) } ?? true
            let (step, floor) = (tuning.step, tuning.floor)
            if hasSwap { try reclaim(anonymous, swappiness: 200, step: step, floor: floor, while: unwoken) }
            if order.takesFiles, host.map({ $0.disk <= tuning.diskStop }) ?? true {
                let file = Bytes(max(0, (stat["file"] ?? 0) - shared)) * order.depth
                try reclaim(file, swappiness: 0, step: step, floor: floor, while: unwoken)
            }
        }
        return try settle(
            Shrink(before: before ?? hinted, limit: .zero, released: max(.zero, (before ?? hinted) - hinted)),
            compression: compression(),
            floor: tuning.floor,
            started: started,
            wakes: wakes
        )
    }

    /// Freezes an idle sandbox with the limits that it has; a wake thaws it.
    ///
    /// - Parameter wakes: as when that was decided; another number now is a request that came first.
    package func pause(since wakes: UInt64) throws(CgroupError) {
        try files.withLock { files throws(CgroupError) in
            guard files.wakes == wakes, !files.frozen else { return }
            try cgroup.freeze()
            files.frozen = true
        }
    }

    /// Raises the limits of a frozen sandbox ahead of a request that is expected; it stays frozen.
    package func prepare(at contract: Bytes) throws(CgroupError) {
        try files.withLock { files throws(CgroupError) in
            if files.frozen { try raise(&files, to: contract) }
        }
    }

    /// Counts wakes: whoever works ahead of one stops when this changes.
    package var wakes: UInt64 { files.withLock { $0.wakes } }

    private func freeze(unlessWokenSince wakes: UInt64) throws(CgroupError) -> Bool {
        try files.withLock { files throws(CgroupError) in
            guard files.wakes == wakes else { return false }
            try cgroup.freeze()
            files.frozen = true
            if files.low != .zero {
                // Protected memory would not be reclaimed.
                try cgroup.setMemoryLow(.zero)
                files.low = .zero
            }
            return true
        }
    }

    private func settle(
        _ shrink: Shrink,
        compression: Double,
        floor: Bytes,
        started: Int64,
        wakes: UInt64
    ) throws(CgroupError) -> ShrinkOutcome {
        try files.withLock { files throws(CgroupError) in
            guard files.wakes == wakes else { return .stopped(.woken) }
            // On a host whose kernel does not account memory: frozen, nothing measured, nothing given back.
            guard let current = cgroup.memoryCurrent() else { return .shrunk(Shrink(limit: files.max)) }
            let slack = Slack.above(current, cpus: cpus)
            let limit = min(files.max, max(floor, Slack.pageAligned(current + slack)))
            try cgroup.setMemoryMax(limit)
            if limit < files.max { files.note("memory.max", .down) }
            files.max = limit
            try setHigh(&files, min(limit, Slack.pageAligned(current + slack * 0.5)))
            var shrink = shrink
            shrink.after = current
            shrink.swapped = cgroup.swapCurrent() ?? .zero
            shrink.compressed = shrink.swapped * compression
            shrink.limit = limit
            shrink.took = .nanoseconds(MonotonicClock.now() - started)
            return .shrunk(shrink)
        }
    }

    /// Reclaims in chunks, so that a wake waits for one chunk at most and a removal is never held up.
    ///
    /// - Parameters:
    ///   - step: the most of what there is that is asked for at once.
    ///   - floor: what is left in any case.
    private func reclaim(
        _ amount: Bytes,
        swappiness: Int?,
        step: Double,
        floor: Bytes = .zero,
        while mayGoOn: () -> Bool
    ) throws(CgroupError) {
        guard let start = cgroup.memoryCurrent() else { return }
        var fruitless = 0
        let amount = min(amount, max(.zero, start - floor))
        while mayGoOn(), fruitless < 2, let current = cgroup.memoryCurrent(), start - current < amount {
            let chunk = min(max(.mib(4), min(current * step, .mib(16))), amount - (start - current))
            try cgroup.reclaim(chunk, swappiness: swappiness)
            // What it took, not what the kernel says it took: that may be charged to the group again, compressed.
            let freed = current - (cgroup.memoryCurrent() ?? current)
            fruitless = freed >= min(.kib(256), chunk * 0.5) ? 0 : fruitless + 1
        }
    }
}
