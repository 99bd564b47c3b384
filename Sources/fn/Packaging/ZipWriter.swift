// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Glibc

/// Writes a zip archive without compression: the same tree always gives the same bytes, so that unchanged code keeps its
/// digest (APPNOTE.TXT 4.3, PKWARE).
struct ZipWriter {
    private var bytes: [UInt8] = []
    private var directory: [UInt8] = []
    private(set) var count = 0

    /// Adds everything below a directory, in the order of names, but what the rules ignore.
    mutating func add(directory root: String, below prefix: String = "", but rules: IgnoreRules) throws {
        for name in try Siblings.names(root) {
            let path = "\(root)/\(name)"
            var info = stat()
            guard unsafe lstat(path, &info) == 0 else { continue }
            let kind = info.st_mode & S_IFMT
            guard !rules.ignores(prefix + name, isDirectory: kind == S_IFDIR) else { continue }
            switch kind {
            case S_IFDIR: try add(directory: path, below: "\(prefix)\(name)/", but: rules)
            case S_IFREG:
                add(prefix + name, try Console.readFile(path), mode: info.st_mode & 0o111 != 0 ? 0o100755 : 0o100644)
            case S_IFLNK: add(prefix + name, link(path), mode: 0o120777)
            default: throw Failure(.usage, "fn: \(path) is no file, directory or link")
            }
        }
    }

    private func link(_ path: String) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink(path, &buffer, buffer.count)
        return buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }
    }

    mutating func add(_ name: String, _ content: [UInt8], mode: UInt32) {
        let offset = UInt32(bytes.count)
        let sum = CRC32.of(content)
        // Version 2.0, UTF-8 names, stored, 1 January 1980; then checksum, two sizes, two lengths.
        var common: [UInt8] = []
        common.append(20, 2)
        common.append(0x0800, 2)
        common.append(0, 2)
        common.append(0, 2)
        common.append(0x21, 2)
        common.append(sum, 4)
        common.append(UInt32(content.count), 4)
        common.append(UInt32(content.count), 4)
        common.append(UInt32(name.utf8.count), 2)
        common.append(0, 2)
        bytes.append(0x0403_4B50, 4)
        bytes += common + Array(name.utf8) + content
        directory.append(0x0201_4B50, 4)
        directory.append(0x0314, 2)  // made by: Unix
        directory += common
        directory.append(0, 2)  // comment
        directory.append(0, 2)  // disk
        directory.append(0, 2)  // internal attributes
        directory.append(mode << 16, 4)
        directory.append(offset, 4)
        directory += Array(name.utf8)
        count += 1
    }

    consuming func finish() -> [UInt8] {
        let start = UInt32(bytes.count)
        var result = bytes + directory
        result.append(0x0605_4B50, 4)
        result.append(0, 4)
        result.append(UInt32(count), 2)
        result.append(UInt32(count), 2)
        result.append(UInt32(directory.count), 4)
        result.append(start, 4)
        result.append(0, 2)
        return result
    }
}

extension [UInt8] {
    /// Appends the low `count` bytes of a number, the lowest first.
    fileprivate mutating func append(_ value: UInt32, _ count: Int) {
        for shift in 0..<count { append(UInt8(truncatingIfNeeded: value >> (8 * UInt32(shift)))) }
    }
}
