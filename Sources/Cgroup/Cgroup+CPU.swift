// SPDX-License-Identifier: Apache-2.0
import Units

/// The CPU controller.
extension Cgroup {
    /// The period of every quota. Long enough that a quota of a few percent is still whole milliseconds.
    private static let periodMicroseconds = 100_000

    /// The share of processor time; `nil` is no limit. `150000 100000` is one and a half CPUs.
    package func setCPUMax(_ quota: CPUQuota?) throws(CgroupError) {
        let microseconds = quota.map { max(1000, $0.millis * Self.periodMicroseconds / 1000) }
        try write(.cpu, "cpu.max", "\(microseconds.map(String.init) ?? "max") \(Self.periodMicroseconds)")
    }

    /// The share as the kernel has it; `nil` when there is no limit or it cannot be read.
    package func cpuMax() -> CPUQuota? {
        guard let parts = measure(.cpu, "cpu.max")?.split(whereSeparator: \.isWhitespace), parts.count == 2 else {
            return nil
        }
        guard let quota = Int(parts[0]), let period = Int(parts[1]), period > 0 else { return nil }
        return CPUQuota(millis: quota * 1000 / period)
    }

    /// The share against siblings when all want the processor, 1 to 10000; 100 is the kernel's default.
    package func setCPUWeight(_ weight: Int) throws(CgroupError) { try write(.cpu, "cpu.weight", String(weight)) }

    /// `cpu.stat`: `usage_usec`, `nr_throttled`, `throttled_usec`… The usage lines exist without the controller, too.
    package func cpuStat() -> FlatKeyed? { (try? read("cpu.stat")).map { FlatKeyed($0) } }
}
