// SPDX-License-Identifier: Apache-2.0
import Crypto
import Glibc
import Linux
import Units

/// Several layers as one directory: later ones over earlier ones, as if they had been unpacked one after the other.
///
/// Files are hard links to those of the layers: they take no room and share the page cache. Nothing is written through a
/// link of a layer: each step looks at what is there itself, and makes a directory in place of anything else.
struct LayerTree {
    let root: String
    /// What all of it may be.
    let limit: Bytes
    private var total: Int64 = 0

    init(root: String, limit: Bytes) {
        self.root = root
        self.limit = limit
    }

    /// What a list of layers is kept as: one layer is its own directory, more are merged; `nil` is none.
    static func digest(of layers: [String]) -> String? {
        guard layers.count > 1 else { return layers.first }
        return Hex.encode(SHA256.hash(data: Array(layers.joined(separator: "\n").utf8)))
    }

    /// Puts a layer over what is there.
    mutating func add(_ layer: String) throws(FunctionsError) {
        do throws(SyscallError) {
            try overlay(layer, on: root)
        } catch {
            throw .storage("layers could not be put together: \(error)")
        }
        guard total <= limit.count else { throw .unpackedTooLarge(limit: limit) }
    }

    private mutating func overlay(_ source: String, on target: String) throws(SyscallError) {
        for name in try Directory.list(source) {
            let (from, to) = ("\(source)/\(name)", "\(target)/\(name)")
            let (new, old) = (try Self.look(from), try? Self.look(to))
            let isDirectory = new.st_mode & S_IFMT == S_IFDIR
            if let old, !(isDirectory && old.st_mode & S_IFMT == S_IFDIR) { try Self.remove(to, old) }
            if isDirectory {
                try Directory.make(to)
                try overlay(from, on: to)
            } else {
                // Of a symbolic link it is the link itself: linkat does not follow without being told to.
                let result = unsafe linkat(AT_FDCWD, from, AT_FDCWD, to, 0)
                try SyscallError.check("linkat", to, result)
                if new.st_mode & S_IFMT == S_IFREG { total += Int64(new.st_size) }
            }
        }
    }

    /// What the files below a directory hold, in bytes.
    static func size(of directory: String) throws(SyscallError) -> Int64 {
        var total: Int64 = 0
        for name in try Directory.list(directory) {
            let info = try look("\(directory)/\(name)")
            switch info.st_mode & S_IFMT {
            case S_IFDIR: total += try size(of: "\(directory)/\(name)")
            case S_IFREG: total += Int64(info.st_size)
            default: break
            }
        }
        return total
    }

    private static func look(_ path: String) throws(SyscallError) -> stat {
        var info = stat()
        try SyscallError.check("lstat", path, unsafe lstat(path, &info))
        return info
    }

    private static func remove(_ path: String, _ info: stat) throws(SyscallError) {
        guard info.st_mode & S_IFMT == S_IFDIR else {
            try SyscallError.check("unlink", path, unsafe unlink(path))
            return
        }
        for name in try Directory.list(path) { try remove("\(path)/\(name)", try look("\(path)/\(name)")) }
        try SyscallError.check("rmdir", path, unsafe rmdir(path))
    }
}
