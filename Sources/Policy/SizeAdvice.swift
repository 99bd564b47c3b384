// SPDX-License-Identifier: Apache-2.0
import Units

/// What a function's measured calls say about the memory it should be given.
package struct SizeAdvice: Sendable, Equatable {
    package enum Verdict: String, Sendable {
        /// Fewer than `Policy.callsToTrust` calls.
        case tooFewCalls = "too-few-calls"
        /// This host does not tell what memory a call took.
        case notMeasured = "not-measured"
        case keep
        case lower
        /// Calls come up to the limit; what they would take with more cannot be known.
        case raise
    }

    /// Peaks of its calls.
    package struct Peaks: Sendable, Equatable {
        package var half: Bytes
        package var most: Bytes
        package var highest: Bytes
    }

    package let calls: Int
    package let memory: Bytes
    package let peaks: Peaks?
    package let verdict: Verdict
    /// What to set; absent where nothing should change.
    package let suggestion: Bytes?

    /// Differences smaller than this share of the memory are not worth a change.
    private static let worthwhile = 0.1
    /// Suggestions are multiples of this.
    private static let step = Bytes.mib(8)

    package init(_ profile: FunctionProfile?, memory: Bytes) {
        calls = profile?.calls ?? 0
        self.memory = memory
        peaks = profile?.knownPeaks
        guard calls >= Policy.callsToTrust else {
            (verdict, suggestion) = (.tooFewCalls, nil)
            return
        }
        guard let peaks else {
            (verdict, suggestion) = (.notMeasured, nil)
            return
        }
        let wanted = Self.room(for: peaks)
        if peaks.highest >= memory * 0.9, wanted > memory {
            (verdict, suggestion) = (.raise, wanted)
        } else if wanted < memory * (1 - Self.worthwhile) {
            (verdict, suggestion) = (.lower, wanted)
        } else {
            (verdict, suggestion) = (.keep, nil)
        }
    }

    /// The headroom of `Policy.measuredCharge` over nearly all calls, and never below what any took.
    private static func room(for peaks: Peaks) -> Bytes {
        let wanted = max(peaks.most * 1.25 + .mib(16), peaks.highest)
        return Bytes((wanted.count + step.count - 1) / step.count * step.count)
    }

    /// What a change gives back for each sandbox.
    package var saving: Bytes? { verdict == .lower ? suggestion.map { memory - $0 } : nil }
}
