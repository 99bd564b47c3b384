// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What tells one version of a file from another.
package struct FileStamp: Equatable, Sendable {
    private let inode: UInt64
    private let seconds: Int
    private let nanoseconds: Int
    private let size: Int
    /// Whom it belongs to and who may read it: a file that is put right is another one too.
    private let owner: UInt32
    private let mode: UInt32

    /// - Returns: `nil` where there is no file.
    package init?(_ path: String) {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return nil }
        (inode, size) = (UInt64(info.st_ino), Int(info.st_size))
        (seconds, nanoseconds) = (info.st_mtim.tv_sec, info.st_mtim.tv_nsec)
        (owner, mode) = (info.st_uid, info.st_mode)
    }
}
