// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// An open file descriptor with one owner, closed when the owner lets go of it.
package struct Descriptor: ~Copyable, Sendable {
    package let raw: CInt

    package init(owning raw: CInt) { self.raw = raw }

    deinit { close(raw) }

    /// `O_PATH`, which Glibc does not import: only to be a place for other calls.
    package static let pathOnly: CInt = 0o10_000_000

    /// Hands the number to somebody else, who closes it.
    package consuming func release() -> CInt {
        let raw = raw
        discard self
        return raw
    }

    /// Opens a file, always close-on-exec.
    package static func open(_ path: String, _ flags: CInt) throws(SyscallError) -> Descriptor {
        Descriptor(owning: try SyscallError.check("open", path, unsafe Glibc.open(path, flags | O_CLOEXEC)))
    }

    /// Throws unless so many more descriptors could be opened now.
    ///
    /// - Parameter some: any that is open.
    package static func requireRoom(for count: Int, some: CInt) throws(SyscallError) {
        if let openNow, openNow + count <= limit { return }
        // Not known, or some have numbers above the limit, which has been lowered since: what counts are those below it.
        var held: [CInt] = []
        defer {
            // One call closes them, if no other thread's are among them.
            if let first = held.first, let last = held.last, held == Array(first...max(first, last)) {
                _ = clinux_close_range(UInt32(first), UInt32(last))
            } else {
                for fd in held { close(fd) }
            }
        }
        for _ in 0..<count {
            held.append(try SyscallError.check("fcntl", "room for descriptors", fcntl(some, F_DUPFD_CLOEXEC, 0)))
        }
    }

    /// How many the process has open; `nil` where the kernel does not say so (before 6.2).
    private static var openNow: Int? {
        var about = stat()
        guard unsafe stat("/proc/self/fd", &about) == 0, about.st_size > 0 else { return nil }
        return about.st_size
    }

    /// The first number that a new one may not have.
    private static var limit: Int {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        return Int(clamping: limit.rlim_cur)
    }

    /// A pipe: what is written to `write` can be read from `read`. Only the read end does not block.
    package static func pipe() throws(SyscallError) -> (read: CInt, write: CInt) {
        var ends: [Int32] = [0, 0]
        try SyscallError.check("pipe", "", unsafe clinux_pipe(&ends))
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        return (ends[0], ends[1])
    }
}
