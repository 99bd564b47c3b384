// SPDX-License-Identifier: Apache-2.0

/// What a policy made of a trace.
package struct Outcome: Sendable, Equatable, Codable {
    package var policy: String
    package var calls = 0
    package var coldStarts = 0
    /// Calls that found no memory in time.
    package var refused = 0
    package var evictions = 0
    /// Calls that woke a shrunk sandbox, and what that cost them all.
    package var wakes = 0
    package var wakeSeconds = 0.0
    /// GiB·hours held, and of those the ones in which nothing ran in what was held.
    package var heldGiBHours = 0.0
    package var wastedGiBHours = 0.0

    package init(policy: String) { self.policy = policy }

    package var coldShare: Double { calls > 0 ? Double(coldStarts) / Double(calls) : 0 }
}

/// What starts and wakes cost, in seconds, and how small an idle sandbox gets.
package struct Costs: Sendable, Equatable {
    package var coldStart = 0.25
    /// A frozen, shrunk sandbox: the pages that a call needs come back.
    package var wake = 0.005
    /// What a shrunk sandbox holds of what it used, compressed pages counted (0.31 measured for Python).
    package var shrunkShare = 0.31
    /// Time a shrink takes.
    package var shrink = 0.1
    /// Time until the memory of an ended sandbox is free.
    package var stop = 0.01

    package init() {}
}
