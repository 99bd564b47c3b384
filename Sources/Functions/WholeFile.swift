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

    /// Opens a directory that is to be synced later. The kernel tells each descriptor of the failures since it was opened,
    /// so this comes before the first write: one that failed in the background, and that another sync was told of
    /// already, is not missed.
    static func directory(_ path: String) throws(FunctionsError) -> Descriptor {
        do throws(SyscallError) { return try Descriptor.open(path, O_RDONLY | O_DIRECTORY) } catch {
            throw problem(error, at: path)
        }
    }

    /// Brings everything of the file system that holds a directory to the disk. Its failure is the last word of the
    /// kernel about writes that seemed to succeed.
    static func syncFileSystem(of directory: borrowing Descriptor, _ path: String) throws(FunctionsError) {
        guard clinux_sync_file_system(directory.raw) == 0 else {
            throw problem(SyscallError("syncfs", path, errno), at: path)
        }
    }

    /// Brings the names in a directory to the disk.
    static func syncNames(of directory: borrowing Descriptor, _ path: String) throws(FunctionsError) {
        guard fsync(directory.raw) == 0 else { throw problem(SyscallError("fsync", path, errno), at: path) }
    }

    /// What the disk says is nobody's fault, and passes.
    static func problem(_ error: SyscallError, at path: String) -> FunctionsError {
        switch error.errno {
        case ENOSPC, EDQUOT: .diskFull(path: path)
        // A journal that cannot be written makes ext4 read-only, or shuts it down.
        case EIO, EROFS: .diskFailed(path: path, why: "\(error)")
        default: .storage("\(error)")
        }
    }

    /// Whether an error is about what an archive holds, and not about the disk.
    static func isOfTheArchive(_ error: Int32) -> Bool {
        [EEXIST, ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP, EINVAL].contains(error)
    }
}
