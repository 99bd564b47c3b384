// SPDX-License-Identifier: Apache-2.0

/// The signatures that were used, for as long as their time would let them be used again.
///
/// A signature is the same for all equal requests that a client makes within a second, and not every SDK signs what
/// tells them apart (botocore leaves out `amz-sdk-invocation-id` and `amz-sdk-request`). So for a few seconds after its
/// first use a signature may come again under another invocation or attempt; under the same, and later, it is a replay.
///
/// Kept by the second in which they were made. When there are too many, the oldest second is forgotten and with it
/// everything that was signed then or before is refused: under load the window gets narrower, and never has a hole.
struct ReplayWindow {
    /// How long after its first use a signature may be another request's, in seconds.
    static let grace: Int64 = 5

    private struct Second {
        /// By signature, when it was first used.
        var firstUse: [UInt64: Int64] = [:]
        var attempts: Set<UInt64> = []
    }

    /// How many requests are remembered: about 50 bytes each.
    private let capacity: Int
    private var used: [Int64: Second] = [:]
    private var count = 0
    /// Nothing that was signed before this second is let in.
    private var floor = Int64.min

    init(capacity: Int = 1 << 19) { self.capacity = capacity }

    enum Answer: Equatable {
        case fresh
        case repeated
        case forgotten
    }

    /// - Parameters:
    ///   - signature: eight bytes of it; that two requests of one second share them by chance does not happen.
    ///   - attempt: eight bytes of a digest of the signature with what tells the request from its equals.
    ///   - signed: when it says it was signed, in seconds; already found to be within the skew of `now`.
    mutating func use(_ signature: UInt64, attempt: UInt64, signed: Int64, now: Int64) -> Answer {
        // By time alone nothing is refused here: a clock that jumped ahead and back must not lock everybody out.
        forget(before: now - SignatureV4.skew)
        guard signed >= floor else { return .forgotten }
        if let first = used[signed]?.firstUse[signature], now - first > Self.grace { return .repeated }
        guard used[signed, default: Second()].attempts.insert(attempt).inserted else { return .repeated }
        if used[signed]?.firstUse[signature] == nil { used[signed]?.firstUse[signature] = now }
        count += 1
        while count > capacity, let oldest = used.keys.min() {
            floor = oldest + 1
            forget(before: floor)
        }
        return .fresh
    }

    private mutating func forget(before second: Int64) {
        for old in used.keys where old < second { count -= used.removeValue(forKey: old)?.attempts.count ?? 0 }
    }
}
