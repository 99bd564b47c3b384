// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// Sockets of the file system.
package enum LocalSocket {
    /// A connection to whoever listens at a path, which need not be taken. It tells when they listen no more.
    package final class Visit: Sendable {
        private let connection: Descriptor
        private let isMade: Bool
        /// Whoever called listen(2), by SO_PEERCRED of unix(7): it may be dead, and a child have its socket still. `nil` for
        /// one that is not seen from here, and for one that had no room for a visitor.
        package let process: pid_t?

        fileprivate init(_ connection: consuming Descriptor, isMade: Bool) {
            let pid = isMade ? clinux_peer_process(connection.raw) : 0
            process = pid > 0 ? pid : nil
            self.isMade = isMade
            self.connection = connection
        }

        /// Whether they have gone since, or it has to be asked anew.
        package var isOver: Bool {
            guard isMade else { return true }
            var state = pollfd(fd: connection.raw, events: 0, revents: 0)
            return unsafe poll(&state, 1, 0) > 0
        }
    }

    /// `nil` where nobody takes connections: a socket that a process left behind has nobody, as a path where there is none.
    package static func visit(_ path: String) -> Visit? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < 107 else { return nil }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else { return nil }
        let connection = Descriptor(owning: fd)
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe connect(fd, $0, size) }
        }
        // One whose backlog is full is there all the same.
        guard result == 0 || errno == EAGAIN else { return nil }
        return Visit(connection, isMade: result == 0)
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
