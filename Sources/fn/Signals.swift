// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// Signals that are waited for together with descriptors: each handler puts its number into a pipe.
enum Signals {
    private static let arrivals = Atomic<CInt>(-1)
    private static let bell = Atomic<CInt>(-1)

    /// From now on these are noticed by `wait` alone.
    static func hold(_ numbers: [CInt]) throws {
        var ends: [CInt] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw Failure(.failed, "fn: no pipe: error \(errno)") }
        arrivals.store(ends[0], ordering: .relaxed)
        bell.store(ends[1], ordering: .relaxed)
        for number in numbers {
            _ = signal(number) { number in
                var byte = UInt8(truncatingIfNeeded: number)
                _ = unsafe Glibc.write(Signals.bell.load(ordering: .relaxed), &byte, 1)
            }
        }
    }

    /// Waits until one of the descriptors has something to read or has ended, a held signal comes, or time is up.
    ///
    /// - Parameter milliseconds: -1 waits for ever.
    /// - Returns: which descriptors, and the signals that came.
    static func wait(for descriptors: [CInt], milliseconds: CInt = -1) -> (ready: [CInt], signals: [CInt]) {
        let pipe = arrivals.load(ordering: .relaxed)
        var entries = (descriptors + [pipe]).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        // A signal interrupts it; its number is in the pipe by then, and the next wait returns at once.
        guard unsafe poll(&entries, nfds_t(entries.count), milliseconds) > 0 else { return ([], []) }
        let ready = entries.filter { $0.revents != 0 }.map(\.fd)
        guard ready.contains(pipe) else { return (ready, []) }
        var numbers = [UInt8](repeating: 0, count: 64)
        let count = unsafe read(pipe, &numbers, numbers.count)
        return (ready.filter { $0 != pipe }, numbers.prefix(max(0, count)).map { CInt($0) })
    }

    /// Ends this program as the signal would have: whoever waits for it sees why.
    static func die(of number: CInt) -> Never {
        _ = signal(number, SIG_DFL)
        _ = raise(number)
        endProgram(128 + number)
    }
}
