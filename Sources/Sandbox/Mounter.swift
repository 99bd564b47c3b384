// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// A thread that mounts into the mount namespaces of living sandboxes, and returns to its own each time.
///
/// For sandboxes that have run nothing but the runtime's own program: what resolves a path there is still ours.
final class Mounter: Sendable {
    private let thread: SerialThread
    private let home: Int32

    init() throws(SyscallError) {
        thread = try SerialThread(name: "mounter")
        home = try Descriptor.open("/proc/self/ns/mnt", O_RDONLY).release()
        do throws(SyscallError) {
            _ = try thread.run { () throws(SyscallError) in
                try SyscallError.check("unshare", "root directory of a thread", clinux_own_root())
            }
        } catch {
            thread.stop()
            close(home)
            throw error
        }
    }

    deinit { close(home) }

    /// Moves a detached mount to a path in the mount namespace of a process. Fails with `ESRCH` when that has been reaped.
    func move(_ mount: CInt, to target: String, of process: borrowing ProcessDescriptor) throws(SyscallError) {
        let (there, home) = (process.descriptor.raw, home)
        _ = try thread.run { () throws(SyscallError) in
            try SyscallError.check("move_mount", target, unsafe clinux_mount_in(there, home, mount, target))
        }
    }

    func stop() { thread.stop() }
}
