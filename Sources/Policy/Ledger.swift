// SPDX-License-Identifier: Apache-2.0
import Units

/// The one account of the host's memory budget: every byte is promised to at most one holder.
///
/// Pure. A promise is made before the kernel's limit is raised and taken back only after it was lowered and read
/// again, so the sum of all `memory.max` below the pool never passes the budget.
package struct Ledger<Holder: Hashable & Sendable>: Sendable {
    /// Why a promise cannot be made.
    package struct Shortfall: Error, Equatable {
        package let wanted: Bytes
        package let free: Bytes
    }

    /// What all holders together may be promised. Lowering it below what is promised refuses growth, and takes
    /// nothing back by itself.
    package var budget: Bytes
    package private(set) var promised = Bytes.zero
    private var holdings: [Holder: Bytes] = [:]

    package init(budget: Bytes) { self.budget = budget }

    package var free: Bytes { max(.zero, budget - promised) }

    package func held(by holder: Holder) -> Bytes { holdings[holder] ?? .zero }

    /// All promises, in no order.
    package var promises: [Holder: Bytes] { holdings }

    /// Changes what a holder is promised; making it smaller always works.
    package mutating func hold(_ bytes: Bytes, for holder: Holder) throws(Shortfall) {
        precondition(bytes >= .zero, "a promise of less than nothing")
        let change = bytes - held(by: holder)
        guard change <= .zero || change <= budget - promised else { throw Shortfall(wanted: change, free: free) }
        promised += change
        holdings[holder] = bytes
    }

    /// Ends a holder's promise and tells how much it was.
    @discardableResult
    package mutating func release(_ holder: Holder) -> Bytes {
        let bytes = holdings.removeValue(forKey: holder) ?? .zero
        promised -= bytes
        return bytes
    }
}
