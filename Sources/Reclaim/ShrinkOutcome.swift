// SPDX-License-Identifier: Apache-2.0
import Units

/// What a shrink did, in the kernel's numbers.
package struct Shrink: Sendable, Equatable {
    /// `memory.current` before and after.
    package var before: Bytes
    package var after: Bytes
    /// `memory.swap.current` after.
    package var swapped: Bytes
    /// `memory.max` as it is now; what the ledger has to hold.
    package var limit: Bytes
    package var took: Duration

    package init(before: Bytes, after: Bytes, swapped: Bytes, limit: Bytes, took: Duration) {
        self.before = before
        self.after = after
        self.swapped = swapped
        self.limit = limit
        self.took = took
    }

    /// On a host whose kernel does not account memory: frozen, nothing measured, nothing given back.
    init(unmeasured limit: Bytes) {
        self.init(before: .zero, after: .zero, swapped: .zero, limit: limit, took: .zero)
    }
}

/// How a shrink ended.
package enum ShrinkOutcome: Sendable, Equatable {
    /// Why a shrink ended without lowering anything.
    package enum Stop: String, Sendable {
        case woken
        case wouldNotFreeze = "would not freeze within 200 ms"
    }

    case shrunk(Shrink)
    case stopped(Stop)
}
