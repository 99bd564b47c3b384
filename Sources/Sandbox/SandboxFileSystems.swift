// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Synchronization
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
    /// `limits.json`, empty and open until it is written for the first time, when nobody reads it yet: a start waits for
    /// that, and making the file takes longer than writing it.
    private let blank: Mutex<CInt?>

    var mount: CInt { descriptor.raw }

    init() throws(SyscallError) {
        let mount = try SyscallError.check("fsmount", "tmpfs", unsafe clinux_detached_tmpfs(64 << 10, "0755", 1))
        descriptor = Descriptor(owning: mount)
        try SyscallError.check("mkfifo", "pressure", unsafe mkfifoat(mount, "pressure", 0o444))
        try SyscallError.check("chmod", "pressure", unsafe fchmodat(mount, "pressure", 0o444, 0))
        // For both, or opening would wait for a reader; nobody else may open it for writing.
        let fifo = unsafe openat(mount, "pressure", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        pressure = Descriptor(owning: try SyscallError.check("open", "pressure", fifo))
        blank = Mutex(try SyscallError.check("open", "limits.json", Self.create("limits.json", in: mount)))
    }

    deinit { blank.withLock { if let file = $0 { close(file) } } }

    private static func create(_ name: String, in directory: CInt) -> CInt {
        let file = unsafe openat(directory, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o444)
        if file >= 0 { _ = fchmod(file, 0o444) }
        return file
    }

    /// Tells the program its limits. Before they are lowered, and after they were raised.
    package func announce(memory: Bytes, cpu: CPUQuota?, tmp: Bytes) {
        var text = "{\"memory_bytes\":\(memory.count)"
        if let cpu { text += ",\"cpu_millis\":\(cpu.millis)" }
        text += ",\"tmp_bytes\":\(tmp.count)}\n"
        // One at a time, or two would write into the same new file.
        blank.withLock { blank in
            let first = blank.take()
            let file = first ?? Self.create("limits.json.new", in: descriptor.raw)
            guard file >= 0 else { return }
            text.withUTF8 { _ = unsafe write(file, $0.baseAddress, $0.count) }
            close(file)
            if first == nil { _ = unsafe renameat(descriptor.raw, "limits.json.new", descriptor.raw, "limits.json") }
        }
    }

    /// Makes the FIFO readable, once until the program reads it.
    package func signalPressure() {
        var waiting: CInt = 0
        guard unsafe ioctl(pressure.raw, UInt(FIONREAD), &waiting) == 0, waiting == 0 else { return }
        var byte = UInt8(ascii: "1")
        _ = unsafe write(pressure.raw, &byte, 1)
    }
}
