// SPDX-License-Identifier: Apache-2.0
import CLinux
import Crypto
import Foundation
import Linux
import Units

/// Code as it is kept: the archive's digest names it, and unchanged code is not kept twice.
package struct CodeBundle: Sendable, Equatable {
    /// SHA-256 of the archive, in hexadecimal.
    package var sha256: String
    /// The unpacked tree, mounted read-only at `/var/task`.
    package var directory: String
    package var archiveSize: Int64
}

/// The code of all functions, by content: `<state>/code/<sha256>/{archive,tree}`.
///
/// A bundle is put together beside its place, synced, and renamed into it: it is there whole or not at all.
package final class CodeStore: Sendable {
    private let root: String
    private let limits: CodeLimits

    package init(stateDirectory: String, limits: CodeLimits = CodeLimits()) throws(FunctionsError) {
        root = "\(stateDirectory)/code"
        self.limits = limits
        do {
            try Directory.makeAll(root)
            // What a former daemon was in the middle of.
            for name in try Directory.list(root) where name.hasPrefix(".") {
                try FileManager.default.removeItem(atPath: "\(root)/\(name)")
            }
        } catch {
            throw .storage("\(root): \(error)")
        }
    }

    /// Checks, unpacks and keeps an archive (zip, tar, or compressed tar).
    package func store(archive: [UInt8]) throws(FunctionsError) -> CodeBundle {
        guard Int64(archive.count) <= limits.archive.count else { throw .archiveTooLarge(limit: limits.archive) }
        let digest = Hex.encode(SHA256.hash(data: archive))
        let place = "\(root)/\(digest)"
        let bundle = CodeBundle(sha256: digest, directory: "\(place)/tree", archiveSize: Int64(archive.count))
        guard !Directory.isDirectory(place) else { return bundle }

        let staging = "\(root)/.\(digest.prefix(16))-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: staging) }
        do throws(SyscallError) {
            try Directory.make(staging)
            try Directory.make("\(staging)/tree")
        } catch {
            throw .storage("\(error)")
        }
        try Unpacker(limits: limits, root: "\(staging)/tree").unpack(archive)
        try keep(archive, in: staging, as: place)
        return bundle
    }

    private func keep(_ archive: [UInt8], in staging: String, as place: String) throws(FunctionsError) {
        guard FileManager.default.createFile(atPath: "\(staging)/archive", contents: Data(archive)) else {
            throw .storage("\(staging)/archive could not be written")
        }
        syncFileSystem(of: staging)
        if unsafe rename(staging, place) == 0 { return syncFileSystem(of: root) }
        // Two deployments of the same code may race: the other one's is as good.
        guard Directory.isDirectory(place) else { throw .storage("rename to \(place): error \(errno)") }
    }

    private func syncFileSystem(of path: String) {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        if fd >= 0 {
            clinux_sync_file_system(fd)
            close(fd)
        }
    }

    /// The archive as it was uploaded; `nil` when there is none.
    package func archive(_ sha256: String) -> [UInt8]? {
        FileManager.default.contents(atPath: "\(root)/\(sha256)/archive").map { [UInt8]($0) }
    }

    package func directory(_ sha256: String) -> String { "\(root)/\(sha256)/tree" }

    /// Removes code that no function uses. Sandboxes that run on it keep their mount.
    package func collectGarbage(keeping digests: Set<String>) {
        for name in (try? Directory.list(root)) ?? [] where !digests.contains(name) && !name.hasPrefix(".") {
            try? FileManager.default.removeItem(atPath: "\(root)/\(name)")
        }
    }
}

/// What an archive may hold.
package struct CodeLimits: Sendable {
    package var archive = Bytes.mib(50)
    package var unpacked = Bytes.mib(250)
    package var entries = 20_000

    package init(archive: Bytes = .mib(50), unpacked: Bytes = .mib(250), entries: Int = 20_000) {
        self.archive = archive
        self.unpacked = unpacked
        self.entries = entries
    }
}
