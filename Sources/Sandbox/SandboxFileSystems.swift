// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// The file system at `/tmp` of one sandbox: memory of its own, whose size is edited while it lives.
package final class ScratchSpace: Sendable {
    private let descriptor: Descriptor
    /// As it was made.
    private let size: Bytes

    /// For `move_mount`, once.
    var mount: CInt { descriptor.raw }

    init(size: Bytes) throws(SyscallError) {
        self.size = size
        descriptor = Descriptor(
            owning: try SyscallError.check(
                "fsmount",
                "tmpfs",
                unsafe clinux_detached_tmpfs(UInt64(size.count), "1777", 0)
            )
        )
    }

    /// Gives it the size that its sandbox starts with; nothing is in it yet.
    func begin(at wanted: Bytes) throws(SyscallError) { if wanted != size { _ = try resize(to: wanted) } }

    /// Makes it larger or smaller, at once.
    ///
    /// - Returns: `false` when more than `size` is in it; then it stays as it is.
    package func resize(to size: Bytes) throws(SyscallError) -> Bool {
        guard clinux_resize_tmpfs(descriptor.raw, UInt64(size.count)) != 0 else { return true }
        guard errno == EINVAL else { throw SyscallError("fsconfig", "tmpfs", errno) }
        return false
    }
}

/// `/run/fn` of one sandbox: what it may know of its own limits, written by the daemon, read by the program.
///
/// ```
/// limits.json   {"memory_bytes":134217728,"cpu_millis":1000,"tmp_bytes":67108864}, replaced as a whole
/// pressure      a FIFO after systemd's MEMORY_PRESSURE_WATCH: becomes readable when memory should be given back
/// ```
package final class ControlDirectory: Sendable {
    private let descriptor: Descriptor
    private let pressure: Descriptor

    var mount: CInt { descriptor.raw }

    init() throws(SyscallError) {
        let mount = try SyscallError.check("fsmount", "tmpfs", unsafe clinux_detached_tmpfs(64 << 10, "0755", 1))
        descriptor = Descriptor(owning: mount)
        try SyscallError.check("mkfifo", "pressure", unsafe mkfifoat(mount, "pressure", 0o444))
        try SyscallError.check("chmod", "pressure", unsafe fchmodat(mount, "pressure", 0o444, 0))
        // For both, or opening would wait for a reader; nobody else may open it for writing.
        let fifo = unsafe openat(mount, "pressure", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        pressure = Descriptor(owning: try SyscallError.check("open", "pressure", fifo))
    }

    /// Tells the program its limits. Before they are lowered, and after they were raised.
    package func announce(memory: Bytes, cpu: CPUQuota?, tmp: Bytes) {
        var text = "{\"memory_bytes\":\(memory.count)"
        if let cpu { text += ",\"cpu_millis\":\(cpu.millis)" }
        text += ",\"tmp_bytes\":\(tmp.count)}\n"
        let flags = O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC
        let fd = unsafe openat(descriptor.raw, "limits.json.new", flags, 0o444)
        guard fd >= 0 else { return }
        _ = fchmod(fd, 0o444)
        text.withUTF8 { _ = unsafe write(fd, $0.baseAddress, $0.count) }
        close(fd)
        _ = unsafe renameat(descriptor.raw, "limits.json.new", descriptor.raw, "limits.json")
    }

    /// Makes the FIFO readable, once until the program reads it.
    package func signalPressure() {
        var waiting: CInt = 0
        guard unsafe ioctl(pressure.raw, UInt(FIONREAD), &waiting) == 0, waiting == 0 else { return }
        var byte = UInt8(ascii: "1")
        _ = unsafe write(pressure.raw, &byte, 1)
    }
}
