// SPDX-License-Identifier: Apache-2.0
import CLinux

/// What a sandbox sees at `/proc`.
package enum ProcView: String, Sendable {
    /// Its own processes and nothing else: no `/proc/sys`, no `/proc/meminfo`.
    case minimal
    /// A full procfs with what tells of the host covered, for runtimes such as the JVM that size themselves by
    /// `/proc/meminfo`, `/proc/cpuinfo` or `/proc/sys`.
    case masked

    /// Of the mount; either hides processes that are not its own.
    var options: String {
        switch self {
        case .minimal: "hidepid=invisible,subset=pid"
        case .masked: "hidepid=invisible"
        }
    }

    var masks: [MaskedPath] {
        switch self {
        case .minimal: []
        case .masked: MaskedPath.all
        }
    }
}

/// One thing below `/proc` that is covered.
///
/// The list is moby's (daemon/pkg/oci/defaults.go) and what else a kernel may have there that tells of the host's memory,
/// devices or modules. What a kernel lacks is passed over; anything else that goes wrong fails the launch.
struct MaskedPath: Sendable, Equatable {
    enum Cover: Int32, Sendable {
        /// By `/dev/null`.
        case file = 0
        /// By an empty directory.
        case directory = 1
        /// By itself, without writing.
        case readOnly = 2
    }

    /// Relative to `/proc`.
    let path: String
    let cover: Cover

    static let all: [MaskedPath] =
        [
            "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats",
            // Beyond moby's: addresses, pages, messages, hardware and parameters of the kernel.
            "buddyinfo", "cmdline", "config.gz", "iomem", "ioports", "kallsyms", "key-users", "kmsg", "kpagecgroup",
            "kpagecount", "kpageflags", "modules", "mtrr", "pagetypeinfo", "schedstat", "slabinfo", "softirqs",
            "vmallocinfo", "zoneinfo",
        ]
        .map { MaskedPath(path: $0, cover: .file) }
        + ["acpi", "asound", "driver", "pressure", "scsi"].map { MaskedPath(path: $0, cover: .directory) }
        + ["bus", "fs", "irq", "sys", "sysrq-trigger"].map { MaskedPath(path: $0, cover: .readOnly) }
}
