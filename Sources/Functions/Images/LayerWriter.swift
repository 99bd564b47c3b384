// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// Puts the layers of an image over each other in one directory, or refuses them.
///
/// Everything is done below a descriptor of that directory. The way to an entry's own directory may lead through symbolic
/// links, as in `lib -> usr/lib`, and is walked as if the directory were `/` (`openat2`, `RESOLVE_IN_ROOT`); the entry
/// itself is never followed: what stands in its place goes first. So nothing outside can be read or changed, whatever a
/// layer holds.
///
/// Files belong to root and can be read, and started where they can be by anybody, by everybody: a sandbox's user is
/// none of the image's. Set-uid bits, capabilities and extended attributes are left out.
struct LayerWriter {
    /// What all layers may come to.
    let limits: ImageLimits
    private let root: CInt
    private let rootPath: String
    private var entries = 0
    private var written: Int64 = 0
    /// What the layer at hand has made: its own whiteouts do not reach that, wherever in the layer they stand.
    private var made: Set<Made> = []
    private var parent: (name: EntryName, place: Place)?
    private var block = [UInt8](repeating: 0, count: 128 << 10)

    private struct Made: Hashable {
        var directory: UInt64
        var name: [CChar]
    }

    /// An open directory.
    private final class Place {
        let descriptor: Descriptor
        let inode: UInt64

        init(owning raw: CInt) throws(FunctionsError) {
            descriptor = Descriptor(owning: raw)
            var info = stat()
            guard unsafe fstat(raw, &info) == 0 else { throw .storage("fstat: error \(errno)") }
            inode = UInt64(info.st_ino)
        }

        var raw: CInt { descriptor.raw }
    }

    /// - Parameters:
    ///   - root: the directory, open; the caller's for as long as this is used.
    ///   - path: where that is, without links.
    init(root: CInt, path: String, limits: ImageLimits) {
        (self.root, rootPath, self.limits) = (root, path, limits)
    }

    /// Puts a layer over what is there.
    mutating func add(_ reader: TarReader) throws(FunctionsError) {
        made = []
        parent = nil
        while let entry = try reader.next() {
            try countEntry()
            try take(entry, reader)
        }
        parent = nil
    }

    /// Counts what takes an inode: an entry, or a directory that one needs and no layer names.
    private mutating func countEntry() throws(FunctionsError) {
        entries += 1
        guard entries <= limits.entries else {
            throw .imageRefused("it has more than \(limits.entries) entries (limits.image_entries in fn.yaml)")
        }
    }

    /// Makes a directory and those above it, unless it is there.
    mutating func makeDirectory(_ name: EntryName) throws(FunctionsError) { _ = try open(name, for: name) }

    private mutating func take(_ entry: TarEntry, _ reader: TarReader) throws(FunctionsError) {
        let name = try EntryName(entry.name)
        guard !name.parent.parts.contains(where: { Whiteout.isMarked($0) }) else {
            throw .layerHostile(entry: name.shown, "lies below a whiteout")
        }
        guard !name.parts.isEmpty else { return }  // the root itself
        if let whiteout = try Whiteout(name.last) { return try hide(whiteout, name) }
        switch entry.kind {
        case .file: try write(entry, name, reader)
        case .directory: try putDirectory(name)
        case .symbolicLink(let target): try putLink(to: target, name)
        case .hardLink(let target): try putHardLink(to: try EntryName(target), name)
        case .other:
            // /dev is never the image's: what older tools have packed of it is left out.
            guard name.parts.count > 1, name.parts[0] == Self.devices else {
                throw .layerHostile(entry: name.shown, "is a device, pipe or socket")
            }
        }
    }

    private static let devices = "dev".utf8.map { CChar(bitPattern: $0) } + [0]

    // MARK: Kinds of entries

    private mutating func write(_ entry: TarEntry, _ name: EntryName, _ reader: TarReader) throws(FunctionsError) {
        guard entry.size <= limits.unpacked.count - written else {
            throw .unpackedImageTooLarge(limit: limits.unpacked)
        }
        let place = try clear(name)
        let flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC
        let file = Descriptor(owning: try check(unsafe openat(place.raw, name.last, flags, 0o644), name))
        while true {
            let count = try reader.read(into: &block)
            guard count > 0 else { break }
            written += Int64(count)
            // Counted as it comes out: what an archive says of its own sizes is not believed.
            guard written <= limits.unpacked.count else { throw .unpackedImageTooLarge(limit: limits.unpacked) }
            try WholeFile.write(block, count: count, to: file.raw, name.shown)
        }
        try check(fchmod(file.raw, entry.isExecutable ? 0o755 : 0o644), name)
        // Python believes compiled files only beside a source of the time that they name.
        let times = [entry.modified, entry.modified]
        _ = unsafe futimens(file.raw, times)
    }

    private mutating func putDirectory(_ name: EntryName) throws(FunctionsError) {
        let place = try open(name.parent, for: name)
        if let old = Self.look(place.raw, name.last), old.st_mode & S_IFMT == S_IFDIR {
            made.insert(Made(directory: place.inode, name: name.last))
        } else {
            _ = try clear(name)
            try make(name, in: place, for: name)
        }
    }

    private mutating func putLink(to target: [CChar], _ name: EntryName) throws(FunctionsError) {
        guard (2...Int(PATH_MAX)).contains(target.count) else {
            throw .layerHostile(entry: name.shown, "is a link to nothing, or to too long a path")
        }
        let place = try clear(name)
        try check(unsafe symlinkat(target, place.raw, name.last), name)
    }

    private mutating func putHardLink(to target: EntryName, _ name: EntryName) throws(FunctionsError) {
        guard let source = try find(target.parent), let info = Self.look(source.raw, target.last),
            [S_IFREG, S_IFLNK].contains(info.st_mode & S_IFMT)
        else { throw .layerHostile(entry: name.shown, "is a hard link to '\(target.shown)', which is no file") }
        let place = try open(name.parent, for: name)
        if let old = Self.look(place.raw, name.last), old.st_ino == info.st_ino {
            made.insert(Made(directory: place.inode, name: name.last))
            return
        }
        _ = try clear(name)
        // What went to make room may have held the target.
        guard unsafe linkat(source.raw, target.last, place.raw, name.last, 0) == 0 else {
            throw .layerHostile(entry: name.shown, "cannot be linked to '\(target.shown)': error \(errno)")
        }
    }

    private mutating func hide(_ whiteout: Whiteout, _ name: EntryName) throws(FunctionsError) {
        guard whiteout != .ignored, let place = try find(name.parent) else { return }
        parent = nil
        switch whiteout {
        case .name(let hidden): try purge(place, hidden)
        case .opaque: for child in try Self.list(place.raw) { try purge(place, child) }
        case .ignored: break
        }
    }

    // MARK: Directories

    /// An entry's directory, with nothing in the entry's place.
    private mutating func clear(_ name: EntryName) throws(FunctionsError) -> Place {
        let place = try open(name.parent, for: name)
        if Self.look(place.raw, name.last) != nil {
            try Self.remove(place.raw, name.last)
            parent = nil
        }
        made.insert(Made(directory: place.inode, name: name.last))
        return place
    }

    /// A directory that is there; `nil` when it is not.
    private func find(_ name: EntryName) throws(FunctionsError) -> Place? {
        if let parent, parent.name == name { return parent.place }
        let fd = unsafe clinux_open_in_root(root, name.path, Descriptor.pathOnly | O_DIRECTORY)
        return fd < 0 ? nil : try Place(owning: fd)
    }

    /// A directory, made with those above it where it is not there.
    private mutating func open(_ name: EntryName, for entry: EntryName) throws(FunctionsError) -> Place {
        if let parent, parent.name == name { return parent.place }
        var fd = unsafe clinux_open_in_root(root, name.path, Descriptor.pathOnly | O_DIRECTORY)
        if fd < 0, errno == ENOENT, !name.parts.isEmpty {
            let above = try open(name.parent, for: entry)
            try countEntry()
            try make(name, in: above, for: entry)
            fd = unsafe clinux_open_in_root(root, name.path, Descriptor.pathOnly | O_DIRECTORY)
        }
        guard fd >= 0 else {
            let error = errno
            let why = [ENOTDIR: "needs a directory where a file is", ELOOP: "lies behind a link that leads in circles"]
            throw .layerHostile(
                entry: entry.shown,
                why[error] ?? "lies in a directory that cannot be opened: error \(error)"
            )
        }
        let place = try Place(owning: fd)
        parent = (name, place)
        return place
    }

    private mutating func make(_ name: EntryName, in place: Place, for entry: EntryName) throws(FunctionsError) {
        try checkDepth(place, name, entry)
        guard unsafe mkdirat(place.raw, name.last, 0o755) == 0 else {
            guard errno == EEXIST else { throw problem(entry) }
            throw .layerHostile(entry: entry.shown, "lies behind a link that leads nowhere")
        }
        try check(unsafe fchmodat(place.raw, name.last, 0o755, 0), name)
        made.insert(Made(directory: place.inode, name: name.last))
    }

    /// Links can add up to a tree that is deeper than any name in it: too deep to be taken away again.
    private func checkDepth(_ place: Place, _ name: EntryName, _ entry: EntryName) throws(FunctionsError) {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink("/proc/self/fd/\(place.raw)", &buffer, buffer.count)
        let slashes = buffer.prefix(max(0, count)).count { $0 == CChar(bitPattern: UInt8(ascii: "/")) }
        let above = rootPath.utf8.count { $0 == UInt8(ascii: "/") }
        guard count > 0, count - rootPath.utf8.count + name.last.count <= EntryName.longest,
            slashes - above < EntryName.deepest
        else { throw .layerHostile(entry: entry.shown, "lies too deep") }
    }

    private static func look(_ directory: CInt, _ name: [CChar]) -> stat? {
        var info = stat()
        return unsafe fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0 ? info : nil
    }

    // MARK: Removing

    /// Removes what lower layers have under a name, and leaves what this layer has made there.
    private func purge(_ place: Place, _ name: [CChar]) throws(FunctionsError) {
        guard let info = Self.look(place.raw, name) else { return }
        let isMade = made.contains(Made(directory: place.inode, name: name))
        guard info.st_mode & S_IFMT == S_IFDIR else {
            if !isMade { try Self.remove(place.raw, name) }
            return
        }
        let inner = try Place(owning: try Self.enter(place.raw, name))
        for child in try Self.list(inner.raw) { try purge(inner, child) }
        // One that this layer has put something in without naming it stays too, and is not empty.
        guard !isMade, unsafe unlinkat(place.raw, name, AT_REMOVEDIR) != 0, errno != ENOTEMPTY else { return }
        throw .storage("\(EntryName.show(name)): error \(errno)")
    }

    private static func remove(_ directory: CInt, _ name: [CChar]) throws(FunctionsError) {
        if unsafe unlinkat(directory, name, 0) == 0 { return }
        guard errno == EISDIR || errno == EPERM else { throw .storage("\(EntryName.show(name)): error \(errno)") }
        let inner = Descriptor(owning: try enter(directory, name))
        for child in try list(inner.raw) { try remove(inner.raw, child) }
        guard unsafe unlinkat(directory, name, AT_REMOVEDIR) == 0 else {
            throw .storage("\(EntryName.show(name)): error \(errno)")
        }
    }

    private static func enter(_ directory: CInt, _ name: [CChar]) throws(FunctionsError) -> CInt {
        let fd = unsafe openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard fd >= 0 else { throw .storage("\(EntryName.show(name)): error \(errno)") }
        return fd
    }

    private static func list(_ directory: CInt) throws(FunctionsError) -> [[CChar]] {
        let fd = unsafe openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard fd >= 0, let stream = unsafe fdopendir(fd) else {
            throw .storage("a directory cannot be read: error \(errno)")
        }
        defer { unsafe closedir(stream) }
        var names: [[CChar]] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe bytes.prefix { $0 != 0 }.map { CChar(bitPattern: $0) } + [0]
            }
            if name != [0x2E, 0], name != [0x2E, 0x2E, 0] { names.append(name) }
        }
        return names
    }

    @discardableResult
    private func check(_ result: CInt, _ name: EntryName) throws(FunctionsError) -> CInt {
        guard result < 0 else { return result }
        throw problem(name)
    }

    /// Why a call for an entry failed: the layer's own fault, or the disk's.
    private func problem(_ name: EntryName) -> FunctionsError {
        let error = errno
        guard WholeFile.isOfTheArchive(error) else {
            return WholeFile.problem(SyscallError("create", name.shown, error), at: rootPath)
        }
        return .layerHostile(entry: name.shown, "cannot be made: error \(error)")
    }
}

/// What a container image may come to.
package struct ImageLimits: Sendable {
    package var archive: Bytes
    package var unpacked: Bytes
    package var entries: Int
    package var manifest: Bytes

    package init(
        archive: Bytes = .mib(4096),
        unpacked: Bytes = .mib(8192),
        entries: Int = 500_000,
        manifest: Bytes = .mib(4)
    ) {
        (self.archive, self.unpacked, self.entries, self.manifest) = (archive, unpacked, entries, manifest)
    }
}
