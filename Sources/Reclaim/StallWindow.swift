// SPDX-License-Identifier: Apache-2.0
import Policy
import Units

/// Turns the kernel's sums of stalls into shares of the time of a window. Keeps some seventy looks at most, however long
/// that is.
struct StallWindow {
    /// Microseconds in which tasks have waited for memory (some of them, all of them) and for disks, at a moment.
    struct Look {
        var some: Int64
        var full: Int64
        var disk: Int64
        var at: Instant
    }

    var length: Duration
    private var past: [Look] = []

    init(_ length: Duration) { self.length = length }

    /// - Returns: shares of the time since the youngest look that is older than the window, or since the first one.
    mutating func shares(_ look: Look) -> (some: Double, full: Double, disk: Double) {
        let begin = look.at - Int64(length.seconds * 1e9)
        if let first = past.lastIndex(where: { $0.at <= begin }) { past.removeFirst(first) }
        defer { if past.last.map({ look.at - $0.at >= (look.at - begin) / 64 }) ?? true { past.append(look) } }
        guard let first = past.first, look.at > first.at else { return (0, 0, 0) }
        let elapsed = Double(look.at - first.at) / 1000
        return (
            Double(look.some - first.some) / elapsed, Double(look.full - first.full) / elapsed,
            Double(look.disk - first.disk) / elapsed
        )
    }
}
