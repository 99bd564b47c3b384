// SPDX-License-Identifier: Apache-2.0
import FnClient
import Glibc

/// A container image as it is sent: an archive as it is, or the directory of an OCI layout as a tar archive that is made
/// on the way. Never whole in memory.
struct ImageSource {
    private enum Piece {
        case bytes([UInt8])
        case file(String, size: Int64)
    }

    private let pieces: [Piece]
    /// `nil` where it is not known before it has been read.
    let size: Int64?

    /// - Parameter path: a file, the directory of an OCI layout, or `-` for standard input.
    init(_ path: String) throws {
        guard path != "-" else {
            (pieces, size) = ([.file("/dev/stdin", size: .max)], nil)
            return
        }
        var info = stat()
        guard unsafe stat(path, &info) == 0 else {
            throw Failure(.notFound, "fn: \(path): \(unsafe String(cString: strerror(errno)))")
        }
        guard info.st_mode & S_IFMT == S_IFDIR else {
            let isPlain = info.st_mode & S_IFMT == S_IFREG
            (pieces, size) = (
                [.file(path, size: isPlain ? Int64(info.st_size) : .max)], isPlain ? Int64(info.st_size) : nil
            )
            return
        }
        (pieces, size) = try Self.layout(path)
    }

    private static func layout(_ path: String) throws -> ([Piece], Int64) {
        let (top, blobs) = (["oci-layout", "index.json"], "blobs/sha256")
        guard top.allSatisfy({ unsafe access("\(path)/\($0)", F_OK) == 0 }) else {
            throw Failure(.usage, "fn: \(path) is no OCI layout: it has no oci-layout or no index.json")
        }
        let names = top + (try Siblings.names("\(path)/\(blobs)")).map { "\(blobs)/\($0)" }
        var (pieces, size): ([Piece], Int64) = ([], 0)
        for name in names {
            var info = stat()
            guard unsafe stat("\(path)/\(name)", &info) == 0, info.st_mode & S_IFMT == S_IFREG else { continue }
            let length = Int64(info.st_size)
            let padding = Int((512 - length % 512) % 512)
            pieces.append(.bytes(header(name, length)))
            pieces.append(.file("\(path)/\(name)", size: length))
            pieces.append(.bytes([UInt8](repeating: 0, count: padding)))
            size += 512 + length + Int64(padding)
        }
        pieces.append(.bytes([UInt8](repeating: 0, count: 1024)))
        return (pieces, size + 1024)
    }

    /// A header as POSIX.1-1988 has it; sizes from 8 GiB in GNU's form, which all readers know.
    private static func header(_ name: String, _ size: Int64) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ bytes: some Collection<UInt8>, _ offset: Int) {
            header.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
        }
        func octal(_ value: Int64, _ digits: Int) -> String.UTF8View {
            let text = String(value, radix: 8)
            return (String(repeating: "0", count: max(0, digits - text.utf8.count)) + text).utf8
        }
        put(name.utf8.prefix(100), 0)
        put(octal(0o644, 7), 100)
        put(octal(0, 7), 108)
        put(octal(0, 7), 116)
        if size < 1 << 33 {
            put(octal(size, 11), 124)
        } else {
            header[124] = 0x80
            put((0..<8).map { UInt8(truncatingIfNeeded: size >> (56 - 8 * Int64($0))) }, 128)
        }
        put(octal(0, 11), 136)
        put("        ".utf8, 148)
        put("0".utf8, 156)
        put("ustar\u{0}00".utf8, 257)
        put(octal(header.reduce(0) { $0 + Int64($1) }, 6), 148)
        header[154] = 0
        return header
    }

    /// Gives all of it, piece by piece, until `give` has enough.
    func read(_ give: ([UInt8]) throws(ClientError) -> Bool) throws(ClientError) {
        for piece in pieces {
            switch piece {
            case .bytes(let bytes): guard try give(bytes) else { return }
            case .file(let path, let size): guard try read(path, size, give) else { return }
            }
        }
    }

    private func read(
        _ path: String,
        _ size: Int64,
        _ give: ([UInt8]) throws(ClientError) -> Bool
    ) throws(ClientError) -> Bool {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw .source("\(path): \(unsafe String(cString: strerror(errno)))") }
        defer { close(fd) }
        var (buffer, left) = ([UInt8](repeating: 0, count: 256 << 10), size)
        while left > 0 {
            let wanted = Int(min(left, Int64(buffer.count)))
            let count = unsafe Glibc.read(fd, &buffer, wanted)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .source("\(path): \(unsafe String(cString: strerror(errno)))") }
            guard count > 0 else {
                if size == .max { return true }
                throw .source("\(path) has become shorter meanwhile")
            }
            left -= Int64(count)
            guard try give(Array(buffer[..<count])) else { return false }
        }
        return true
    }
}
