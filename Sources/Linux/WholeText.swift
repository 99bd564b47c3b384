// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// Files that people write: read whole, or not at all. Half of one would be another one.
package enum WholeText {
    /// The largest that is read, in bytes.
    package static let limit = 1 << 20

    /// Throws `EFBIG` for one that is larger than `limit`.
    package static func read(_ path: String) throws(SyscallError) -> String {
        let fd = try Descriptor.open(path, O_RDONLY)
        return try contents(fd.raw, path)
    }

    /// The same for a file in a directory that somebody else has filled: links in it lead nowhere outside of it, and what
    /// is no regular file is not read (`EINVAL`).
    package static func read(_ name: String, inside directory: String) throws(SyscallError) -> String {
        let root = try Descriptor.open(directory, Descriptor.pathOnly | O_DIRECTORY)
        // A pipe in its place must not hold up the daemon.
        let opened = unsafe clinux_open_in_root(root.raw, name, O_RDONLY | O_NONBLOCK)
        let fd = Descriptor(owning: try SyscallError.check("open", "\(directory)/\(name)", opened))
        var info = stat()
        try SyscallError.check("fstat", name, unsafe fstat(fd.raw, &info))
        guard info.st_mode & S_IFMT == S_IFREG else { throw SyscallError("read", "\(directory)/\(name)", EINVAL) }
        return try contents(fd.raw, "\(directory)/\(name)")
    }

    private static func contents(_ fd: CInt, _ path: String) throws(SyscallError) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(fd, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw SyscallError("read", path, errno) }
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
            guard bytes.count <= limit else { throw SyscallError("read", path, EFBIG) }
        }
    }
}
