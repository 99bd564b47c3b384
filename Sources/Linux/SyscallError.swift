// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A system call that failed: which one, on what, and why.
package struct SyscallError: Error, Sendable, Equatable, CustomStringConvertible {
    package let call: String
    /// The file or object that the call was about; may be empty.
    package let subject: String
    package let errno: Int32

    package init(_ call: String, _ subject: String, _ errno: Int32) {
        self.call = call
        self.subject = subject
        self.errno = errno
    }

    /// What `errno` says, in words.
    package var reason: String { unsafe String(cString: strerror(errno)) }

    package var description: String {
        subject.isEmpty ? "\(call): \(reason)" : "\(call) \(subject): \(reason)"
    }

    /// Returns what the call returned, or throws what `errno` says.
    @discardableResult
    package static func check(
        _ call: @autoclosure () -> String,
        _ subject: @autoclosure () -> String,
        _ result: CInt
    ) throws(SyscallError) -> CInt {
        guard result >= 0 else { throw SyscallError(call(), subject(), Glibc.errno) }
        return result
    }
}
