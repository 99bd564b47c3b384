// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// Sockets of the file system.
package enum LocalSocket {
    /// Who takes connections at a path.
    package enum Listener: Equatable, Sendable {
        /// A socket that a process left behind has nobody, as a path where there is none.
        case nobody
        /// Whoever called listen(2), by SO_PEERCRED of unix(7). It may be dead, and a child have its socket still.
        case process(pid_t)
        /// One with a full backlog, or of a PID namespace that is not seen from here.
        case unknown
    }

    package static func listener(at path: String) -> Listener {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < 107 else { return .nobody }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else { return .nobody }
        defer { close(fd) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe connect(fd, $0, size) }
        }
        guard result == 0 else { return errno == EAGAIN ? .unknown : .nobody }
        let pid = clinux_peer_process(fd)
        return pid > 0 ? .process(pid) : .unknown
    }
}

/// Which file it is that has a name now.
package struct FileIdentity: Sendable, Equatable {
    private let device: UInt64
    private let inode: UInt64

    /// `nil` where there is none.
    package init?(_ path: String) {
        var info = stat()
        guard unsafe lstat(path, &info) == 0 else { return nil }
        (device, inode) = (UInt64(info.st_dev), UInt64(info.st_ino))
    }
}
