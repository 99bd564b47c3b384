// SPDX-License-Identifier: Apache-2.0
import Units

/// The room left between what a shrunk sandbox holds and its `memory.max`.
package enum Slack {
    /// The larger of 4 MiB, a tenth of what is held, and what the kernel's per-CPU charge caches can hide.
    ///
    /// A limit without slack is a cliff: 136 times slower at a limit equal to the working set was measured. The kernel
    /// charges in batches of 64 pages a CPU (`MEMCG_CHARGE_BATCH`, mm/memcontrol.c), hence the last term, twice.
    package static func above(_ current: Bytes, cpus: Int) -> Bytes {
        max(.mib(4), current * 0.1, .kib(512 * Int64(cpus)))
    }

    /// Rounds up to whole pages, as the kernel does when it reads the limit back.
    package static func pageAligned(_ bytes: Bytes) -> Bytes { Bytes((bytes.count + 4095) & ~4095) }
}
