// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What the kernel tells of a process, from `/proc/PID/stat` (proc_pid_stat(5)).
package struct ProcessState: Sendable {
    /// In clock ticks since the machine was started: with the PID it names a process for good.
    package let startTime: UInt64
    /// Whether it is on its way out, a zombie too: nothing of the program runs any more.
    package let isEnding: Bool

    /// `nil` where there is no such process.
    package init?(_ pid: pid_t) {
        guard let stat = try? KernelFile.read("/proc/\(pid)/stat") else { return nil }
        self.init(stat: stat)
    }

    /// `nil` where that is no line of this file.
    package init?(stat: String) {
        // The second field is the program's name in parentheses and may hold anything: count from the last one.
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[end...].split(separator: " ").dropFirst()
        guard fields.count > 19, let flags = UInt32(fields[fields.startIndex + 6]),
            let startTime = UInt64(fields[fields.startIndex + 19])
        else { return nil }
        self.startTime = startTime
        // PF_EXITING of the kernel's sched.h.
        isEnding = flags & 0x4 != 0
    }
}
