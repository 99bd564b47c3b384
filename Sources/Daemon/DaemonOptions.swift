// SPDX-License-Identifier: Apache-2.0
import Linux
import Settings
import Units

/// What the command line says to the daemon.
package struct DaemonOptions: Sendable {
    package var configFile: String?
    package var allowUnenforcedLimits = false
    /// The cgroup to build below, in place of the one that is found.
    package var cgroupRoot: String?
    /// Settings by path.
    package var flags: [String: String] = [:]

    package init() {}

    /// Where the configuration is read from, and whether its absence is an error.
    package func configPlace(_ environment: [String: String]) -> (file: String, isRequired: Bool) {
        if let configFile { return (configFile, true) }
        if let named = environment["FN_CONFIG"] { return (named, true) }
        return ("/etc/fn/fn.yaml", false)
    }
}

extension Machine {
    /// This machine.
    package static var current: Machine {
        let text = (try? KernelFile.read("/proc/meminfo")) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemTotal:") }
        let kib = line.flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int64($0) } ?? 0
        let cpus =
            (try? KernelFile.read("/proc/cpuinfo"))?.split(separator: "\n").count { $0.hasPrefix("processor") } ?? 1
        return Machine(memory: .kib(kib), cpus: max(1, cpus))
    }
}
