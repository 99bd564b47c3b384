// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Why a file with secrets is not read.
package enum PrivateFileError: Error, Equatable, CustomStringConvertible {
    case unreadable(SyscallError)
    case notAFile
    case foreign(owner: UInt32)
    case exposed(mode: UInt32)
    case tooLarge(limit: Int)

    package var description: String {
        switch self {
        case .unreadable(let error): "cannot be read: \(error)"
        case .notAFile: "is not a regular file"
        case .foreign(let owner): "belongs to user \(owner), who could change it: chown root"
        case .exposed(let mode):
            "has mode 0\(String(mode, radix: 8)), so others can read or change what is secret: chmod 0600"
        case .tooLarge(let limit): "is larger than \(limit) bytes"
        }
    }
}

/// Files with secrets: keys, private keys of certificates.
package enum PrivateFile {
    private static let limit = 1 << 20

    /// Reads one that nobody but root (or who runs this program) and its group can read, and nobody else change.
    package static func read(_ path: String) throws(PrivateFileError) -> String {
        let fd: Descriptor
        do throws(SyscallError) {
            // A pipe in its place must not hold up the daemon.
            let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK
            fd = Descriptor(owning: try SyscallError.check("open", path, unsafe open(path, flags)))
        } catch {
            throw .unreadable(error)
        }
        // Looked at through the descriptor, so that it is this file that is judged and no later one of that name.
        var info = stat()
        guard unsafe fstat(fd.raw, &info) == 0 else { throw .unreadable(SyscallError("fstat", path, errno)) }
        guard info.st_mode & S_IFMT == S_IFREG else { throw .notAFile }
        guard info.st_uid == 0 || info.st_uid == geteuid() else { throw .foreign(owner: info.st_uid) }
        guard info.st_mode & 0o027 == 0 else { throw .exposed(mode: info.st_mode & 0o777) }
        return String(decoding: try contents(fd.raw, path), as: UTF8.self)
    }

    private static func contents(_ fd: CInt, _ path: String) throws(PrivateFileError) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(fd, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw .unreadable(SyscallError("read", path, errno)) }
            guard count > 0 else { return bytes }
            bytes += buffer[..<count]
            guard bytes.count <= limit else { throw .tooLarge(limit: limit) }
        }
    }
}
