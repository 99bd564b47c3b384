// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// How a process ended.
package enum ExitStatus: Sendable, Equatable {
    case exited(Int32)
    case signaled(Int32)
}

/// A pidfd: names one process for ever, however often its number is used again.
package struct ProcessDescriptor: ~Copyable, Sendable {
    package let descriptor: Descriptor

    package init(owning raw: CInt) { descriptor = Descriptor(owning: raw) }

    /// Does nothing to a process that has ended.
    package borrowing func signal(_ signal: CInt) { _ = clinux_signal_pidfd(descriptor.raw, signal) }

    /// Reaps the ended process; blocks while it lives.
    package borrowing func reap() throws(SyscallError) -> ExitStatus {
        var code: Int32 = 0
        var status: Int32 = 0
        try SyscallError.check("waitid", "pidfd", unsafe clinux_wait_pidfd(descriptor.raw, &code, &status))
        return code == CLD_EXITED ? .exited(status) : .signaled(status)
    }
}
