// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Reclaim

/// What the kernel has counted for the sandboxes of one function, those that have ended included: their groups, and the
/// numbers in them, are gone with them.
package struct KernelCounters: Sendable, Equatable {
    /// Time in which some, or all, tasks of a sandbox waited for one resource.
    package struct Stall: Sendable, Hashable {
        /// `memory`, `cpu` or `io`.
        package var resource: String
        /// `some` or `full`.
        package var kind: String
    }

    package var cpuMicroseconds: Int64 = 0
    /// In which `cpu.max` let nothing run.
    package var throttledMicroseconds: Int64 = 0
    /// Times that `memory.high` slowed a sandbox down.
    package var highEvents: Int64 = 0
    /// Pages that had been taken and were needed again.
    package var refaultedAnonymousPages: Int64 = 0
    package var refaultedFilePages: Int64 = 0
    package var stalledMicroseconds: [Stall: Int64] = [:]
    package var limitChanges: [LimitChange: Int64] = [:]

    package init() {}

    /// Of one sandbox, as it is now; what this kernel does not count stays 0.
    init(_ group: Cgroup, _ changes: [LimitChange: Int64]) {
        let cpu = group.cpuStat()
        cpuMicroseconds = cpu?["usage_usec"] ?? 0
        throttledMicroseconds = cpu?["throttled_usec"] ?? 0
        highEvents = group.memoryEvents()?.high ?? 0
        if let stat = group.memoryStat() {
            refaultedAnonymousPages = stat["workingset_refault_anon"] ?? 0
            refaultedFilePages = stat["workingset_refault_file"] ?? 0
        }
        let pressures = [
            ("memory", group.memoryPressure()), ("cpu", group.cpuPressure()), ("io", group.ioPressure()),
        ]
        for (resource, pressure) in pressures {
            guard let pressure else { continue }
            stalledMicroseconds[Stall(resource: resource, kind: "some")] = pressure.some.totalMicroseconds
            stalledMicroseconds[Stall(resource: resource, kind: "full")] = pressure.full.totalMicroseconds
        }
        limitChanges = changes
    }

    static func += (sum: inout KernelCounters, more: KernelCounters) {
        sum.cpuMicroseconds += more.cpuMicroseconds
        sum.throttledMicroseconds += more.throttledMicroseconds
        sum.highEvents += more.highEvents
        sum.refaultedAnonymousPages += more.refaultedAnonymousPages
        sum.refaultedFilePages += more.refaultedFilePages
        sum.stalledMicroseconds.merge(more.stalledMicroseconds, uniquingKeysWith: +)
        sum.limitChanges.merge(more.limitChanges, uniquingKeysWith: +)
    }
}

extension SandboxPool {
    /// What the kernel has counted, by function. Reads seven files of each sandbox.
    package var kernelCounters: [String: KernelCounters] {
        let readings = shared.withLock { Array($0.members.values) }.map { ($0, $0.kernelCounters) }
        return shared.withLock { shared in
            // One that was retired meanwhile is counted among those, with its last numbers.
            readings.filter { shared.members[$0.0.id] === $0.0 }
                .reduce(into: shared.retired) { sums, reading in
                    sums[reading.0.owner, default: KernelCounters()] += reading.1
                }
        }
    }

    /// Keeps the numbers of a sandbox whose group is about to go; from here on it is no member any more, in the same
    /// moment, so that no sum ever falls.
    func retire(_ member: PooledSandbox) {
        let last = member.kernelCounters
        shared.withLock { shared in
            shared.members[member.id] = nil
            // Of a function that was removed nothing is kept.
            guard shared.state.plan(member.owner) != nil else { return }
            shared.retired[member.owner, default: KernelCounters()] += last
        }
    }
}

extension PooledSandbox {
    fileprivate var kernelCounters: KernelCounters { KernelCounters(sandbox.cgroup, limits.changes) }
}
