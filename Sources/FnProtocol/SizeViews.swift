// SPDX-License-Identifier: Apache-2.0

/// Advice on one function's memory, from what its calls took. Sizes in bytes.
package struct SizeView: Codable, Sendable {
    package var function: String
    /// How many calls are known, and how many it takes for advice.
    package var calls: Int
    package var callsNeeded: Int
    /// Half of the calls, 99 of 100, and all of them stayed below; absent where it is not measured.
    package var peakP50: Int64?
    package var peakP99: Int64?
    package var peakHighest: Int64?
    package var memory: Int64
    /// `too-few-calls`, `not-measured`, `keep`, `lower` or `raise`.
    package var verdict: String
    /// What to set.
    package var suggestion: Int64?
    /// For each sandbox.
    package var saving: Int64?

    package init(function: String, calls: Int, callsNeeded: Int, memory: Int64, verdict: String) {
        self.function = function
        self.calls = calls
        self.callsNeeded = callsNeeded
        self.memory = memory
        self.verdict = verdict
    }
}

package struct SizeList: Codable, Sendable {
    package var sizes: [SizeView]
    package init(sizes: [SizeView]) { self.sizes = sizes }
}
