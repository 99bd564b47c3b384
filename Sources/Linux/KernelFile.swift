// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Small files of procfs and cgroupfs: read whole, written in one call.
package enum KernelFile {
    /// The largest file that is read.
    private static let limit = 64 << 10

    package static func read(_ path: String, at directory: CInt = AT_FDCWD) throws(SyscallError) -> String {
        let fd = Descriptor(
            owning: try SyscallError.check("open", path, unsafe openat(directory, path, O_RDONLY | O_CLOEXEC))
        )
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < limit {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(fd.raw, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw SyscallError("read", path, errno) }
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    package static func write(
        _ path: String,
        _ text: String,
        at directory: CInt = AT_FDCWD,
        append: Bool = false
    ) throws(SyscallError) {
        let flags = O_WRONLY | O_CLOEXEC | (append ? O_APPEND : 0)
        let fd = Descriptor(owning: try SyscallError.check("open", path, unsafe openat(directory, path, flags)))
        var text = text
        let count = text.withUTF8 { unsafe Glibc.write(fd.raw, $0.baseAddress, $0.count) }
        guard count >= 0 else { throw SyscallError("write '\(text)' to", path, errno) }
    }

    package static func exists(_ path: String, at directory: CInt = AT_FDCWD) -> Bool {
        unsafe faccessat(directory, path, F_OK, 0) == 0
    }
}

/// Directories, as far as the runtime needs them.
package enum Directory {
    /// Creates one; an existing one is fine.
    ///
    /// - Returns: whether it is new.
    @discardableResult package static func make(_ path: String, mode: mode_t = 0o755) throws(SyscallError) -> Bool {
        guard unsafe mkdir(path, mode) != 0 else { return true }
        guard errno == EEXIST else { throw SyscallError("mkdir", path, errno) }
        return false
    }

    /// Creates one and its parents.
    package static func makeAll(_ path: String, mode: mode_t = 0o755) throws(SyscallError) {
        var walked = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            walked += walked.isEmpty || walked.hasSuffix("/") ? "\(part)" : "/\(part)"
            try make(walked, mode: mode)
        }
    }

    /// The names in a directory, without `.` and `..`, sorted.
    package static func list(_ path: String) throws(SyscallError) -> [String] {
        guard let stream = unsafe opendir(path) else { throw SyscallError("opendir", path, errno) }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// The files that a shell's pattern names, sorted.
    package static func matching(_ pattern: String) -> [String] {
        var found = unsafe glob_t()
        defer { unsafe globfree(&found) }
        guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
        return (0..<Int(unsafe found.gl_pathc))
            .compactMap { index in
                unsafe found.gl_pathv[index].map { unsafe String(cString: $0) }
            }
    }

    /// Whether this is an executable file, or a link, which may lead somewhere else where it is followed.
    package static func hasExecutable(_ path: String) -> Bool {
        var info = stat()
        guard unsafe lstat(path, &info) == 0 else { return false }
        let kind = info.st_mode & S_IFMT
        return kind == S_IFLNK || (kind == S_IFREG && info.st_mode & 0o111 != 0)
    }

    package static func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return unsafe stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }
}
