// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Units

/// A file that records are added to, one a line. Blocking.
package enum RecordFile {
    package enum Problem: Error, Sendable, Equatable, CustomStringConvertible {
        /// It is not below the directory that the operator has set aside for it.
        case outside(path: String, base: String)
        /// Something on the way to it is a symbolic link, or it is not a file.
        case wrongKind(path: String)
        case full(path: String, limit: Bytes)
        case failed(SyscallError)

        /// Whether it will be the same next time.
        package var isFinal: Bool {
            switch self {
            case .outside, .wrongKind: true
            case .full, .failed: false
            }
        }

        package var description: String {
            switch self {
            case .outside(let path, let base): "\(path) is not below \(base) (storage.destinations in fn.yaml)"
            case .wrongKind(let path): "\(path) is a symbolic link, or not what is expected there"
            case .full(let path, let limit):
                "\(path) would be larger than \(limit) (limits.destination_file in fn.yaml): move it away"
            case .failed(let error): "\(error)"
            }
        }
    }

    /// Adds one line; when this returns it is on disk. Directories on the way are made.
    ///
    /// - Parameters:
    ///   - base: the operator's directory; only what lies below it is touched, and no link is followed from there on.
    ///   - limit: what the file may come to.
    package static func append(
        _ record: [UInt8],
        to path: String,
        below base: String,
        limit: Bytes
    ) throws(Problem) {
        guard let parts = parts(of: path, below: base), let name = parts.last else {
            throw .outside(path: path, base: base)
        }
        do throws(SyscallError) {
            try Directory.makeAll(base, mode: 0o750)
            var directory = try Descriptor.open(base, O_RDONLY | O_DIRECTORY)
            for part in parts.dropLast() {
                if unsafe mkdirat(directory.raw, part, 0o750) != 0, errno != EEXIST {
                    throw SyscallError("mkdir", path, errno)
                }
                directory = try open(part, in: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, path)
            }
            // Not blocking: somebody may have put a FIFO there.
            let file = try open(name, in: directory, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, path)
            try add(record, to: file, path, limit)
            guard fsync(directory.raw) == 0 else { throw SyscallError("fsync", path, errno) }
        } catch {
            throw problem(error, path, limit)
        }
    }

    private static func problem(_ error: SyscallError, _ path: String, _ limit: Bytes) -> Problem {
        switch error.errno {
        case ELOOP, ENOTDIR, EISDIR, ENXIO: .wrongKind(path: path)
        case EFBIG: .full(path: path, limit: limit)
        default: .failed(error)
        }
    }

    /// What is between the two; `nil` when `path` is not below `base`.
    private static func parts(of path: String, below base: String) -> [String]? {
        let (inner, outer) = (path.split(separator: "/"), base.split(separator: "/"))
        guard inner.count > outer.count, inner.prefix(outer.count) == outer[...] else { return nil }
        let rest = inner.dropFirst(outer.count).map(String.init)
        return rest.contains { $0 == ".." || $0 == "." } ? nil : rest
    }

    private static func open(
        _ name: String,
        in directory: borrowing Descriptor,
        _ flags: CInt,
        _ path: String
    ) throws(SyscallError) -> Descriptor {
        let fd = unsafe openat(directory.raw, name, flags | O_CLOEXEC, 0o640)
        return Descriptor(owning: try SyscallError.check("open", path, fd))
    }

    private static func add(
        _ record: [UInt8],
        to file: borrowing Descriptor,
        _ path: String,
        _ limit: Bytes
    ) throws(SyscallError) {
        guard flock(file.raw, LOCK_EX) == 0 else { throw SyscallError("flock", path, errno) }
        var info = stat()
        guard unsafe fstat(file.raw, &info) == 0 else { throw SyscallError("fstat", path, errno) }
        guard info.st_mode & S_IFMT == S_IFREG else { throw SyscallError("open", path, EISDIR) }
        let end = try wholeLines(file, size: info.st_size, path)
        let line = record + [UInt8(ascii: "\n")]
        guard Int64(end) + Int64(line.count) <= limit.count else { throw SyscallError("write", path, EFBIG) }
        do throws(SyscallError) {
            try write(line, to: file, path)
        } catch {
            ftruncate(file.raw, end)  // half a line is worse than none
            throw error
        }
    }

    /// Where the last whole line ends. What a kill in the middle of a write left is cut off: it comes again, whole.
    private static func wholeLines(
        _ file: borrowing Descriptor,
        size: off_t,
        _ path: String
    ) throws(SyscallError) -> off_t {
        var (end, buffer) = (size, [UInt8](repeating: 0, count: 4096))
        while end > 0 {
            let start = max(0, end - off_t(buffer.count))
            let count = unsafe pread(file.raw, &buffer, Int(end - start), start)
            guard count > 0 else { throw SyscallError("read", path, count < 0 ? errno : EIO) }
            if let newline = buffer[..<count].lastIndex(of: UInt8(ascii: "\n")) {
                end = start + off_t(newline) + 1
                break
            }
            end = start
        }
        if end < size, ftruncate(file.raw, end) != 0 { throw SyscallError("ftruncate", path, errno) }
        return end
    }

    private static func write(_ bytes: [UInt8], to file: borrowing Descriptor, _ path: String) throws(SyscallError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(file.raw, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw SyscallError("write", path, errno) }
            rest = rest.dropFirst(count)
        }
        guard fsync(file.raw) == 0 else { throw SyscallError("fsync", path, errno) }
    }
}
