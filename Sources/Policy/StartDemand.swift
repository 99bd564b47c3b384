// SPDX-License-Identifier: Apache-2.0
import Units

/// How many sandboxes of one runtime are asked for at once: the largest number within a window of late.
///
/// What was seen counts half after `halfLife`, so that one start keeps one sandbox ready for that long and a burst of
/// eight is remembered, but not for ever.
package struct StartDemand: Sendable, Equatable {
    /// About what it takes to start the ones that were taken again, one after the other.
    static let window: Instant = 2_000_000_000

    private var windowBegan: Instant = 0
    private var inWindow = 0
    private var peak = 0.0
    private var peakAt: Instant = 0

    package init() {}

    /// A request needed a sandbox that was not there.
    package mutating func noteStart(now: Instant, halfLife: Duration) {
        if now - windowBegan >= Self.window {
            windowBegan = now
            inWindow = 0
        }
        inWindow += 1
        let decayed = decayed(now: now, halfLife: halfLife)
        peak = max(decayed, Double(inWindow))
        peakAt = now
    }

    /// How many are worth having ready now.
    package func wanted(now: Instant, halfLife: Duration) -> Int {
        Int(decayed(now: now, halfLife: halfLife).rounded())
    }

    private func decayed(now: Instant, halfLife: Duration) -> Double {
        guard peak > 0 else { return 0 }
        let halves = Int((Double(now - peakAt) / 1e9 / max(1, halfLife.seconds)).rounded(.down))
        // Whole halves, then a straight line between them: no need of the C library's powers.
        let rest = Double(now - peakAt) / 1e9 / max(1, halfLife.seconds) - Double(halves)
        return halves > 60 ? 0 : peak / Double(1 << halves) * (1 - rest / 2)
    }
}
