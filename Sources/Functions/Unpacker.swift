// SPDX-License-Identifier: Apache-2.0
import CArchive
import Foundation
import Linux
import Units

/// Unpacks an untrusted archive below one directory, or refuses it.
///
/// libarchive reads the formats; what is written, and where, is decided here from checked names only. Nothing is written
/// through a link: links are made last.
struct Unpacker {
    let limits: CodeLimits
    let root: String

    private struct Link {
        var path: String
        var target: String
    }

    func unpack(_ archive: [UInt8]) throws(FunctionsError) {
        guard let reader = unsafe archive_read_new() else { throw .archiveUnreadable("out of memory") }
        defer { unsafe archive_read_free(reader) }
        unsafe archive_read_support_format_zip(reader)
        unsafe archive_read_support_format_tar(reader)
        unsafe archive_read_support_filter_gzip(reader)
        unsafe archive_read_support_filter_xz(reader)
        unsafe archive_read_support_filter_zstd(reader)
        let result = Result { try unsafe archive.withUnsafeBytes { try unsafe read(reader, $0) } }
        switch result {
        case .success: return
        case .failure(let error as FunctionsError): throw error
        case .failure(let error): throw .storage("\(error)")
        }
    }

    private func read(_ reader: OpaquePointer, _ bytes: UnsafeRawBufferPointer) throws {
        guard unsafe archive_read_open_memory(reader, bytes.baseAddress, bytes.count) == ARCHIVE_OK else {
            throw unsafe unreadable(reader)
        }
        var seen: Set<String> = []
        var links: [Link] = []
        var total: Int64 = 0
        while true {
            var entry: OpaquePointer?
            let result = unsafe archive_read_next_header(reader, &entry)
            if result == ARCHIVE_EOF { break }
            guard result >= ARCHIVE_WARN, let entry = unsafe entry else { throw unsafe unreadable(reader) }
            try unsafe take(entry, from: reader, &seen, &links, &total)
        }
        guard !seen.isEmpty else { throw FunctionsError.archiveUnreadable("it holds no files") }
        for link in links { try make(link) }
    }

    private func unreadable(_ reader: OpaquePointer) -> FunctionsError {
        .archiveUnreadable(unsafe archive_error_string(reader).map { unsafe String(cString: $0) } ?? "unknown format")
    }

    private func take(
        _ entry: OpaquePointer,
        from reader: OpaquePointer,
        _ seen: inout Set<String>,
        _ links: inout [Link],
        _ total: inout Int64
    ) throws {
        guard let raw = unsafe archive_entry_pathname(entry) else {
            throw FunctionsError.archiveUnreadable("an entry has no name")
        }
        let name = unsafe String(cString: raw)
        guard let path = try EntryPath.check(name) else { return }
        let type = unsafe archive_entry_filetype(entry)
        guard seen.insert(path).inserted || type == S_IFDIR else {
            throw FunctionsError.archiveHostile(entry: name, reason: "is there twice")
        }
        guard seen.count <= limits.entries else {
            throw FunctionsError.archiveHostile(entry: name, reason: "is one of more than \(limits.entries)")
        }
        if unsafe archive_entry_hardlink(entry) != nil {
            throw FunctionsError.archiveHostile(entry: name, reason: "is a hard link")
        }
        switch type {
        case S_IFDIR: try makeDirectory(path, name)
        case S_IFREG:
            let isExecutable = unsafe archive_entry_perm(entry) & 0o111 != 0
            try makeDirectory(EntryPath.parent(path), name)
            let size = unsafe archive_entry_size_is_set(entry) != 0 ? archive_entry_size(entry) : 0
            try unsafe write(reader, to: path, name, isExecutable: isExecutable, size: size, &total)
        case S_IFLNK:
            let target = unsafe archive_entry_symlink(entry).map { unsafe String(cString: $0) } ?? ""
            try EntryPath.checkLink(target, at: path, name)
            links.append(Link(path: path, target: target))
        default: throw FunctionsError.archiveHostile(entry: name, reason: "is no file, directory or symbolic link")
        }
    }

    private func makeDirectory(_ path: String, _ name: String) throws {
        do throws(SyscallError) {
            try Directory.makeAll("\(root)/\(path)")
        } catch {
            guard WholeFile.isOfTheArchive(error.errno) else { throw WholeFile.problem(error, at: root) }
            throw FunctionsError.archiveHostile(entry: name, reason: "needs a directory where a file is")
        }
    }

    private func write(
        _ reader: OpaquePointer,
        to path: String,
        _ name: String,
        isExecutable: Bool,
        size: Int64,
        _ total: inout Int64
    ) throws {
        let flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC
        let fd = unsafe open("\(root)/\(path)", flags, isExecutable ? 0o755 : 0o644)
        guard fd >= 0 else { throw problem("create", path, name) }
        let file = Descriptor(owning: fd)
        fchmod(file.raw, isExecutable ? 0o755 : 0o644)
        var (buffer, written) = ([UInt8](repeating: 0, count: 128 << 10), Int64(0))
        // Counted as it comes out: what an archive says of its own sizes is not believed.
        func count(_ more: Int64) throws(FunctionsError) {
            written += more
            guard more <= limits.unpacked.count - total else { throw .unpackedTooLarge(limit: limits.unpacked) }
            total += more
        }
        while true {
            let got = unsafe archive_read_data(reader, &buffer, buffer.count)
            guard got >= 0 else { throw unsafe unreadable(reader) }
            guard got > 0 else { break }
            try count(Int64(got))
            try WholeFile.write(buffer, count: got, to: file.raw, path)
        }
        // libarchive ends at the hole behind the last piece of content.
        guard written < size else { return }
        try count(size - written)
        guard ftruncate(file.raw, off_t(written)) == 0 else { throw problem("truncate", path, name) }
    }

    private func make(_ link: Link) throws {
        try makeDirectory(EntryPath.parent(link.path), link.path)
        guard unsafe symlink(link.target, "\(root)/\(link.path)") == 0 else {
            throw problem("symlink", link.path, link.path)
        }
    }

    /// Why an entry could not be made: the archive's own fault, or the disk's.
    private func problem(_ call: String, _ path: String, _ name: String) -> FunctionsError {
        let error = SyscallError(call, path, errno)
        guard WholeFile.isOfTheArchive(error.errno) else { return WholeFile.problem(error, at: root) }
        return .archiveHostile(entry: name, reason: "cannot be made: \(error)")
    }
}

/// The names in an archive, and what they may be.
enum EntryPath {
    /// The cleaned relative path; `nil` for the root itself.
    static func check(_ name: String) throws(FunctionsError) -> String? {
        guard !name.hasPrefix("/"), !name.contains("\\") else {
            throw .archiveHostile(entry: name, reason: "is an absolute path, or one with a backslash")
        }
        let parts = name.split(separator: "/").filter { $0 != "." }
        guard !parts.contains("..") else {
            throw .archiveHostile(entry: name, reason: "leads out of the archive with '..'")
        }
        guard name.utf8.count < 1024, parts.count < 64 else {
            throw .archiveHostile(entry: name.prefix(60) + "…", reason: "is too long")
        }
        return parts.isEmpty ? nil : parts.joined(separator: "/")
    }

    /// A link may lead anywhere inside the function's directory. It goes up first and down then: behind a name, which may
    /// be another link's, `..` would mean another place than these names say.
    static func checkLink(_ target: String, at path: String, _ name: String) throws(FunctionsError) {
        guard !target.hasPrefix("/"), !target.isEmpty else {
            throw .archiveHostile(entry: name, reason: "is a link to '\(target)', outside of the archive")
        }
        let parts = target.split(separator: "/").filter { $0 != "." }
        let up = parts.prefix { $0 == ".." }.count
        guard up < path.split(separator: "/").count, !parts.dropFirst(up).contains("..") else {
            throw .archiveHostile(
                entry: name,
                reason: "is a link to '\(target)', outside of the archive or by a detour"
            )
        }
    }

    static func parent(_ path: String) -> String { path.split(separator: "/").dropLast().joined(separator: "/") }
}
