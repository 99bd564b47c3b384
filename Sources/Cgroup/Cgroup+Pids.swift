// SPDX-License-Identifier: Apache-2.0

/// The pids controller: how many processes and threads may exist.
extension Cgroup {
    /// `nil` is no limit.
    package func setPidsMax(_ limit: Int?) throws(CgroupError) {
        try write(.pids, "pids.max", limit.map(String.init) ?? "max")
    }

    package func pidsCurrent() -> Int? {
        measure(.pids, "pids.current").flatMap { Int($0.dropLast(while: \.isNewline)) }
    }
}
