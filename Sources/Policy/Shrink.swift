// SPDX-License-Identifier: Apache-2.0
import Units

/// Why memory is taken from a sandbox; the `reason` of `fn_reclaimed_bytes_total`.
package enum ShrinkCause: String, Sendable {
    /// It has been left alone for long enough.
    case idle
    /// A request of another sandbox needs memory.
    case request
    /// The host is short of memory.
    case hostPressure = "host_pressure"
    /// Its function was given less than it holds.
    case `operator`
}

/// How a shrink is to be done.
package struct ShrinkOrder: Sendable, Equatable {
    /// The share of what can be taken that is taken, 0 to 1.
    package var depth: Double
    /// Whether file pages go too, not only anonymous ones.
    package var takesFiles: Bool
    /// Whether the runtime is asked first to give back what it does not need.
    package var hints: Bool
    /// Whom it is for.
    package var cause = ShrinkCause.idle
    /// Which shrink of its sandbox this is: an order that waited while a request came and went is out of date.
    package internal(set) var number = 0

    package init(depth: Double = 1, takesFiles: Bool = false, hints: Bool = true, cause: ShrinkCause = .idle) {
        self.cause = cause
        self.depth = depth
        self.takesFiles = takesFiles
        self.hints = hints
    }
}

/// What a shrink did, in the kernel's numbers.
package struct Shrink: Sendable, Equatable {
    /// `memory.current` before and after.
    package var before: Bytes
    package var after: Bytes
    /// `memory.swap.current` after.
    package var swapped: Bytes
    /// RAM that the swapped bytes still take, compressed; charged to the sandbox in the ledger, as nobody else pays.
    package var compressed: Bytes
    /// `memory.max` as it is now.
    package var limit: Bytes
    /// What the runtime gave back by itself, measured by us: it may say what it likes.
    package var released: Bytes
    package var took: Duration

    package init(
        before: Bytes = .zero,
        after: Bytes = .zero,
        swapped: Bytes = .zero,
        compressed: Bytes = .zero,
        limit: Bytes,
        released: Bytes = .zero,
        took: Duration = .zero
    ) {
        self.before = before
        self.after = after
        self.swapped = swapped
        self.compressed = compressed
        self.limit = limit
        self.released = released
        self.took = took
    }

    /// What the ledger has to hold for it from now on.
    package var charge: Bytes { limit + compressed }
}

/// Why a shrink ended before it took what it was to, as it is counted.
package enum ShrinkStop: String, Sendable, CaseIterable {
    /// A request came.
    case woken
    case wouldNotFreeze = "would_not_freeze"
    /// The kernel refused, or the sandbox was gone.
    case failed
}
