// SPDX-License-Identifier: Apache-2.0
import Glibc

/// The service manager that started this process, told how it goes: sd_notify(3), without a library for it.
///
/// One datagram for each message, lines of `NAME=value`, to the Unix socket that `$NOTIFY_SOCKET` names: a path, or an
/// abstract name that is written with `@` for its first, zero byte.
package struct ServiceManager: Sendable {
    /// `sun_path` as the kernel takes it; `nil` where nobody wants to know.
    private let name: [UInt8]?
    /// How long this process may be silent before it is taken for hung; `nil` where nobody watches.
    package let watchdog: Duration?

    package init(_ environment: [String: String]) {
        name = environment["NOTIFY_SOCKET"].flatMap(Self.socketName)
        // WATCHDOG_PID says whom it is meant for: a child that inherited it is somebody else.
        let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
        watchdog = environment["WATCHDOG_USEC"].flatMap { Int64($0) }
            .flatMap { $0 > 0 && isMeant ? .microseconds($0) : nil }
    }

    private static func socketName(_ text: String) -> [UInt8]? {
        var bytes = Array(text.utf8)
        // 108 bytes are sun_path (unix(7)); a path is followed by a zero byte.
        guard let first = bytes.first, bytes.count < 108 else { return nil }
        switch first {
        case UInt8(ascii: "/"): bytes.append(0)
        case UInt8(ascii: "@"): bytes[0] = 0
        default: return nil
        }
        return bytes
    }

    /// What is served from now on, as `systemctl status` shows it.
    package func isReady(_ status: String) { tell("READY=1\nSTATUS=\(status)") }

    /// The configuration is read again, until `isReady`. The time makes systemd (253 and newer, `notify-reload`) sure
    /// that this answers its own signal.
    package func isReloading() { tell("RELOADING=1\nMONOTONIC_USEC=\(MonotonicClock.now() / 1000)") }

    package func isStopping() { tell("STOPPING=1\nSTATUS=Ending the sandboxes") }

    /// Never waits: it is called on event loops, and the next one comes soon.
    package func isAlive() { tell("WATCHDOG=1", flags: Int32(MSG_DONTWAIT)) }

    /// Best effort: who does not listen misses it.
    private func tell(_ message: String, flags: Int32 = 0) {
        guard let name else { return }
        let fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return }
        defer { close(fd) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
        // The length counts: an abstract name is all the bytes up to it.
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
        let bytes = Array(message.utf8)
        _ = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe sendto(fd, bytes, bytes.count, flags | Int32(MSG_NOSIGNAL), $0, length)
            }
        }
    }
}
