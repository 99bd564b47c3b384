// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// Writing that counts only when all of it has reached the disk.
enum WholeFile {
    /// Writes the first `count` bytes; a short write, as on a disk that fills up, is gone on with until the kernel says why.
    static func write(_ bytes: [UInt8], count: Int, to file: CInt, _ path: String) throws(FunctionsError) {
        var done = 0
        while done < count {
            let written = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.write(file, $0.baseAddress?.advanced(by: done), count - done)
            }
            guard written >= 0 || errno == EINTR else { throw problem(SyscallError("write", path, errno), at: path) }
            done += max(written, 0)
        }
    }

    /// Writes a new file.
    static func create(_ path: String, _ bytes: [UInt8]) throws(FunctionsError) {
        let fd = unsafe open(path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard fd >= 0 else { throw problem(SyscallError("create", path, errno), at: path) }
        let file = Descriptor(owning: fd)
        try write(bytes, count: bytes.count, to: file.raw, path)
    }

    /// Brings everything of the file system that holds `path` to the disk. Its failure is the last word of the kernel
    /// about writes that seemed to succeed.
    static func syncFileSystem(of path: String) throws(FunctionsError) {
        do throws(SyscallError) {
            let directory = try Descriptor.open(path, O_RDONLY)
            try SyscallError.check("syncfs", path, clinux_sync_file_system(directory.raw))
        } catch {
            throw problem(error, at: path)
        }
    }

    /// A full disk is nobody's fault, and passes.
    static func problem(_ error: SyscallError, at path: String) -> FunctionsError {
        error.errno == ENOSPC || error.errno == EDQUOT ? .diskFull(path: path) : .storage("\(error)")
    }

    /// Whether an error is about what an archive holds, and not about the disk.
    static func isOfTheArchive(_ error: Int32) -> Bool {
        [EEXIST, ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP, EINVAL].contains(error)
    }
}
