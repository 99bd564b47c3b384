// SPDX-License-Identifier: Apache-2.0
import Units

/// How memory is taken and given, from the `reclaim` section of `fn.yaml`. What is built in was measured.
package struct ReclaimTuning: Sendable, Equatable {
    /// What a wake may cost, as a share of the function's usual time (its 95th percentile); less than 10 ms is never much.
    package var wakeCost: Double
    /// Pages that a wake may bring back in a second.
    package var refaults: Double
    /// How much less is taken from a function's sandboxes after a wake that cost more than that.
    package var backoff: Double
    /// The most of a sandbox's memory that is taken in one step; between 4 and 16 MiB whatever it says.
    package var step: Double
    /// What a shrink leaves a sandbox at least.
    package var floor: Bytes
    /// The share of swap in use above which nothing more is swapped out.
    package var swapStop: Double
    /// The share of time that tasks wait for disks above which file pages stay: they would be read again.
    package var diskStop: Double
    /// How far `memory.max` runs ahead of use in a burst, and by how much it is raised, as shares of the function's size.
    package var growHeadroom: Double
    package var growStep: Double
    /// Shares of time in which some, or all, tasks of the host wait for memory, above which it is short, or out of it.
    package var someStop: Double
    package var fullStop: Double

    package init(
        wakeCost: Double = 0.25,
        refaults: Double = 4000,
        backoff: Double = 0.5,
        step: Double = 0.25,
        floor: Bytes = .zero,
        swapStop: Double = 0.8,
        diskStop: Double = 0.5,
        growHeadroom: Double = 0.25,
        growStep: Double = 0.25,
        someStop: Double = 0.05,
        fullStop: Double = 0.02
    ) {
        self.wakeCost = wakeCost
        self.refaults = refaults
        self.backoff = backoff
        self.step = step
        self.floor = floor
        self.swapStop = swapStop
        self.diskStop = diskStop
        self.growHeadroom = growHeadroom
        self.growStep = growStep
        self.someStop = someStop
        self.fullStop = fullStop
    }
}
