// SPDX-License-Identifier: Apache-2.0
import Units

/// How much the host hurts.
package enum HostTier: Int, Sendable, Comparable, CaseIterable, CustomStringConvertible {
    /// Enough for everybody: only what has been idle for long is shrunk.
    case green
    /// Getting short: shrink sooner.
    case yellow
    /// Short: file pages go too, shrunk sandboxes are evicted, nothing is started ahead of need.
    case orange
    /// Out: no growth, idle sandboxes go. A busy one is never touched.
    case red

    package static func < (left: HostTier, right: HostTier) -> Bool { left.rawValue < right.rawValue }

    package var description: String {
        switch self {
        case .green: "green"
        case .yellow: "yellow"
        case .orange: "orange"
        case .red: "red"
        }
    }
}

/// The host's memory at one moment.
package struct HostSample: Sendable, Equatable {
    /// `MemAvailable`.
    package var available: Bytes
    /// Swap that is free, and all of it.
    package var swapFree: Bytes
    package var swapTotal: Bytes
    /// RAM that compressed swap takes for one byte of what it holds; 0 where swap is a disk.
    package var compression: Double
    /// Share of the time since the last sample in which some, or all, tasks waited for memory.
    package var some: Double
    package var full: Double
    /// Share in which some waited for disks.
    package var disk: Double

    package init(
        available: Bytes,
        swapFree: Bytes = .zero,
        swapTotal: Bytes = .zero,
        compression: Double = 0,
        some: Double = 0,
        full: Double = 0,
        disk: Double = 0
    ) {
        self.disk = disk
        self.available = available
        self.swapFree = swapFree
        self.swapTotal = swapTotal
        self.compression = compression
        self.some = some
        self.full = full
    }

    var swapFreeShare: Double { swapTotal > .zero ? Double(swapFree.count) / Double(swapTotal.count) : 1 }
}

/// Follows the host's tier: up at once, down one step at a time after five seconds that were better by a quarter.
package struct TierTracker: Sendable {
    package private(set) var tier = HostTier.green
    private var betterSince: Instant?
    private static let patience: Instant = 5_000_000_000

    package init() {}

    /// - Parameter budget: what all sandboxes together may be promised.
    package mutating func observe(
        _ sample: HostSample,
        budget: Bytes,
        tuning: ReclaimTuning = ReclaimTuning(),
        now: Instant
    ) {
        let seen = Self.tier(sample, budget, tuning, strictness: 1)
        if seen >= tier {
            tier = seen
            betterSince = nil
            return
        }
        guard Self.tier(sample, budget, tuning, strictness: 1.25) < tier else {
            betterSince = nil
            return
        }
        let since = betterSince ?? now
        betterSince = since
        guard now - since >= Self.patience else { return }
        tier = HostTier(rawValue: tier.rawValue - 1) ?? .green
        betterSince = tier == .green ? nil : now
    }

    /// Stalls count only while the host itself is not far from short: one sandbox that thrashes at its own limit stalls
    /// its whole slice, and taking memory from others would not help it.
    private static func tier(
        _ sample: HostSample,
        _ budget: Bytes,
        _ tuning: ReclaimTuning,
        strictness: Double
    ) -> HostTier {
        let available = Double(sample.available.count) / Double(max(1, budget.count)) / strictness
        let stallsCount = available < 0.4
        let (some, full) = stallsCount ? (sample.some * strictness, sample.full * strictness) : (0, 0)
        let swapIsOut = sample.swapTotal > .zero && sample.swapFreeShare / strictness < 0.1 && available < 0.2
        if available < 0.05 || full >= tuning.fullStop || swapIsOut { return .red }
        if available < 0.10 || some >= tuning.someStop { return .orange }
        if available < 0.20 || some >= tuning.someStop / 5 { return .yellow }
        return .green
    }
}
