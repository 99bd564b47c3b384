// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// Random numbers of the kernel's, fetched some at a time: every request needs two, and each would be a system call.
package final class RandomWords: Sendable {
    /// As many as the kernel gives at once: 256 bytes (getentropy(3)).
    private static let fetched = 32

    private let words = Mutex<[UInt64]>([])

    package init() {}

    /// Two that nobody has been given.
    package func pair() -> (UInt64, UInt64) {
        words.withLock { words in
            if words.count < 2 { words = Self.fetch() }
            return (words.removeLast(), words.removeLast())
        }
    }

    private static func fetch() -> [UInt64] {
        var words = [UInt64](repeating: 0, count: fetched)
        let size = fetched * MemoryLayout<UInt64>.size
        let result = unsafe words.withUnsafeMutableBytes { unsafe getentropy($0.baseAddress, size) }
        precondition(result == 0, "the kernel gives no random numbers")
        return words
    }
}
