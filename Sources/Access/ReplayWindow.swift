// SPDX-License-Identifier: Apache-2.0

/// The signatures that were used, for as long as their time would let them be used again.
///
/// Kept by the second in which they were made. When there are too many, the oldest second is forgotten and with it
/// everything that was signed then or before is refused: under load the window gets narrower, and never has a hole.
struct ReplayWindow {
    /// How many are kept: about 16 bytes each.
    private let capacity: Int
    /// The first eight bytes of each; that two requests of one second share them by chance does not happen.
    private var used: [Int64: Set<UInt64>] = [:]
    private var count = 0
    /// Nothing that was signed before this second is let in.
    private var floor = Int64.min

    init(capacity: Int = 1 << 20) { self.capacity = capacity }

    enum Answer: Equatable {
        case fresh
        case repeated
        case forgotten
    }

    /// - Parameter signed: when it says it was signed, in seconds; already found to be within the skew of `now`.
    mutating func use(_ signature: [UInt8], signed: Int64, now: Int64) -> Answer {
        // By time alone nothing is refused here: a clock that jumped ahead and back must not lock everybody out.
        forget(before: now - SignatureV4.skew)
        guard signed >= floor else { return .forgotten }
        let mark = signature.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard used[signed, default: []].insert(mark).inserted else { return .repeated }
        count += 1
        while count > capacity, let oldest = used.keys.min() {
            floor = oldest + 1
            forget(before: floor)
        }
        return .fresh
    }

    private mutating func forget(before second: Int64) {
        for old in used.keys where old < second { count -= used.removeValue(forKey: old)?.count ?? 0 }
    }
}
