// SPDX-License-Identifier: Apache-2.0
import Units

/// One edit of a living sandbox's limits for a request, and how long it took.
package struct LimitStep: Sendable, Equatable {
    package enum Kind: String, Sendable {
        /// Limits were raised before the request ran.
        case grow
        case thaw
        /// `memory.max` changed while it ran, or was lowered for it.
        case resize
    }

    package var kind: Kind
    /// Nanoseconds of `MonotonicClock`.
    package var began: Int64
    package var ended: Int64
    /// `memory.max` before and after, where it changed.
    package var from: Bytes?
    package var to: Bytes?

    package init(_ kind: Kind, began: Int64, ended: Int64, from: Bytes? = nil, to: Bytes? = nil) {
        (self.kind, self.began, self.ended, self.from, self.to) = (kind, began, ended, from, to)
    }
}
