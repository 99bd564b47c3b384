// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// Writing that counts only when all of it has reached the disk.
enum WholeFile {
    /// Writes everything; a short write, as on a disk that fills up, is gone on with until the kernel says why.
    static func write(_ bytes: UnsafeRawBufferPointer, to file: CInt, _ path: String) throws(FunctionsError) {
        var done = 0
        while done < bytes.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = unsafe Glibc.write(file, rest.baseAddress, rest.count)
            guard count >= 0 || errno == EINTR else { throw problem(SyscallError("write", path, errno), at: path) }
            done += max(count, 0)
        }
    }

    /// Writes a new file.
    static func create(_ path: String, _ bytes: [UInt8]) throws(FunctionsError) {
        let file: Descriptor
        do throws(SyscallError) {
            let fd = unsafe open(path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0o644)
            file = Descriptor(owning: try SyscallError.check("create", path, fd))
        } catch {
            throw problem(error, at: path)
        }
        let fd = file.raw
        var failure: FunctionsError?
        unsafe bytes.withUnsafeBytes { buffer in
            do throws(FunctionsError) { try unsafe write(buffer, to: fd, path) } catch { failure = error }
        }
        if let failure { throw failure }
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
