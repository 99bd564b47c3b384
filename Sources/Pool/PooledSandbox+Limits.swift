// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Linux
import Logging
import Policy
import Reclaim
import Sandbox
import Units

/// What a sandbox is told of its limits, what it gives back, and what its calls show that they need.
extension PooledSandbox {
    // MARK: Giving memory back, and getting it again

    /// Asks the program to give back what it does not need: our own protocol where its runtime speaks it, systemd's
    /// `MEMORY_PRESSURE_WATCH` for everybody. Blocks until it has, at most until `deadline`, and no longer than
    /// `mayGoOn` says. What it gave back is measured by the caller.
    func hint(deadline: Duration, while mayGoOn: () -> Bool) {
        sandbox.control.signalPressure()
        guard let server = server.withLock({ $0 }), server.hintIdle() else { return }
        let end = MonotonicClock.now() + Int64(deadline.seconds * 1e9)
        while server.isHinted, mayGoOn(), MonotonicClock.now() < end { KernelSleep.microseconds(500) }
    }

    /// Called before a shrunk sandbox is thawed.
    func willWake() {
        let refaults = refaults()
        state.withLock { $0.before = Before(refaults: refaults) }
    }

    private func refaults() -> Int64 {
        guard let stat = sandbox.cgroup.memoryStat() else { return 0 }
        // Swapped pages that came back are counted as one or the other, by kernel and kind of swap.
        let anonymous = max(stat["workingset_refault_anon"] ?? 0, (stat["pswpin"] ?? 0) + (stat["zswpin"] ?? 0))
        return anonymous + (stat["workingset_refault_file"] ?? 0)
    }

    /// `memory.max` ran ahead for the call that runs now.
    func noteGrowth(to limit: Bytes) {
        state.withLock { $0.growth = (($0.growth?.steps ?? 0) + 1, limit) }
    }

    /// `memory.max` was edited: belongs to what runs.
    func noteResize(_ step: LimitStep) {
        state.withLock { state in
            if !state.current.isEmpty, state.resizes.count < 32 { state.resizes.append(step) }
        }
    }

    /// Remembers which pages are resident now, right after a call that began shrunk.
    func recordWorkingSet() {
        guard let pids = try? sandbox.cgroup.processes() else { return }
        let set = WorkingSet.record(pids) { !hasExited }
        state.withLock { $0.workingSet = set }
    }

    /// What the last call that began shrunk had needed.
    package var workingSet: WorkingSet? { state.withLock { $0.workingSet } }

    /// What this call showed of its function; the pool learns it when the runtime asks for more work.
    func observe(_ requestID: String, _ peak: Bytes?) {
        let before = state.withLock { $0.before }
        // Only a call that began shrunk can have cost refaults that say something, and only then they are read.
        let refaulted = before.map { max(0, refaults() - $0.refaults) } ?? 0
        let current = before == nil ? nil : sandbox.cgroup.memoryCurrent()
        state.withLock { state in
            guard let invocation = state.current[requestID], invocation.isAlone else { return }
            state.call = CallObservation(
                duration: .nanoseconds(MonotonicClock.now() - invocation.began),
                peak: peak,
                refaultedPages: refaulted,
                current: current
            )
            state.before = nil
        }
    }

    // MARK: Telling it

    /// Tells the program its limits, where they changed. Before they are lowered, and after they were raised.
    func announce(memory: Bytes? = nil, cpu: CPUQuota? = nil) {
        let changed = told.withLock { told in
            var new = told
            if let memory { new.memory = memory }
            if let cpu { new.cpu = cpu }
            guard new != told else { return Told?.none }
            told = new
            // Inside, or of two edits at once the older could be written last.
            if let memory = new.memory { sandbox.control.announce(memory: memory, cpu: new.cpu, tmp: new.tmp) }
            return new
        }
        if let changed, let memory = changed.memory {
            server.withLock { $0 }?
                .resizeExtensions(memoryMB: Int64(memory.mebibytes), cpuMillis: changed.cpu.map { Int64($0.millis) })
        }
    }

    /// It was given a function's limits.
    func has(_ limits: LiveLimits) { live.withLock { $0 = limits } }

    /// Brings the limits that need no decision to what they are meant to be.
    func edit(_ wanted: LiveLimits, _ devices: [BlockDevice], _ log: Logger) {
        setTmp(wanted.tmp, log)
        do throws(CgroupError) {
            try limits.setBrake(wanted.high)
            try live.withLock { live throws(CgroupError) in
                let group = sandbox.cgroup
                if live.io != wanted.io { for device in devices { try group.setIOMax(device, wanted.io) } }
                if live.ioWeight != wanted.ioWeight { try group.setIOWeight(wanted.ioWeight) }
                if live.swap != wanted.swap { try group.setSwapMax(wanted.swap) }
                if live.cpuWeight != wanted.cpuWeight { try group.setCPUWeight(wanted.cpuWeight) }
                if live.pids != wanted.pids { try sandbox.setProcessLimit(wanted.pids) }
                live = wanted
            }
        } catch {
            log.warning("a limit of \(id) could not be written: \(error)")
        }
    }

    /// Brings `/tmp` to its size; what does not fit is tried again when `retryTmp` is called.
    func setTmp(_ size: Bytes, _ log: Logger) {
        let isNew = told.withLock { told in
            defer { told.tmp = size }
            return told.tmp != size
        }
        guard isNew else { return }
        do {
            let fits = try sandbox.tmp.resize(to: size)
            told.withLock { $0.tmpIsPending = !fits }
            if !fits { log.notice("/tmp of \(id) holds more than \(size.rounded): lowered when it fits") }
        } catch {
            log.warning("/tmp of \(id) could not be resized: \(error)")
        }
    }

    func retryTmp() {
        let wanted = told.withLock { $0.tmpIsPending ? $0.tmp : nil }
        guard let wanted, (try? sandbox.tmp.resize(to: wanted)) == true else { return }
        told.withLock { $0.tmpIsPending = false }
    }
}
