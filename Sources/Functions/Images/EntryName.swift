// SPDX-License-Identifier: Apache-2.0
import Glibc

/// The parts of a name in a layer. Bytes, since file names are.
struct EntryName: Hashable {
    /// Each ends with a NUL.
    var parts: [[CChar]]

    static let longest = 2048
    static let deepest = 128

    init(_ parts: [[CChar]]) { self.parts = parts }

    /// - Parameter name: ends with a NUL; a slash in front is the root's, as `.` is.
    init(_ name: [CChar]) throws(FunctionsError) {
        parts = name.dropLast().split(separator: CChar(bitPattern: UInt8(ascii: "/"))).map { Array($0) + [0] }
            .filter { $0 != Self.here }
        guard !parts.contains(Self.up) else { throw .layerHostile(entry: Self.show(name), "leads out with '..'") }
        guard name.count <= Self.longest, parts.count <= Self.deepest, parts.allSatisfy({ $0.count <= 256 }) else {
            throw .layerHostile(entry: Self.show(name), "is too long or too deep")
        }
    }

    private static let here: [CChar] = [0x2E, 0]
    private static let up: [CChar] = [0x2E, 0x2E, 0]

    var last: [CChar] { parts.last ?? [0] }
    var parent: EntryName { EntryName(Array(parts.dropLast())) }

    /// As one relative path that ends with a NUL; `.` is the root.
    var path: [CChar] {
        guard !parts.isEmpty else { return Self.here }
        return Array(parts.map { $0.dropLast() }.joined(separator: [CChar(bitPattern: UInt8(ascii: "/"))])) + [0]
    }

    var shown: String { Self.show(path) }

    /// For people: what a terminal might take for more than text is left out.
    static func show(_ name: [CChar]) -> String {
        let text = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let plain = text.unicodeScalars.map { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) ? "?" : String($0) }
        return plain.count > 80 ? plain.prefix(80).joined() + "…" : plain.joined()
    }
}

/// What a name in a layer that begins with `.wh.` asks for.
enum Whiteout: Equatable {
    /// What lower layers have under this name goes.
    case name([CChar])
    /// All that lower layers have in the directory goes.
    case opaque
    /// Book-keeping of AUFS, which is none of ours.
    case ignored

    /// - Parameter name: the last part of an entry's name.
    /// - Returns: `nil` for other names.
    init?(_ name: [CChar]) throws(FunctionsError) {
        guard Self.isMarked(name) else { return nil }
        let rest = Array(name.dropFirst(Self.mark.count))
        if name == Self.opaqueName {
            self = .opaque
        } else if Self.isMarked(rest) {
            self = .ignored
        } else if rest == [0] || rest == [0x2E, 0] || rest == [0x2E, 0x2E, 0] {
            throw .layerHostile(entry: EntryName.show(name), "is a whiteout of no name")
        } else {
            self = .name(rest)
        }
    }

    static func isMarked(_ name: [CChar]) -> Bool { name.starts(with: mark) }

    private static let mark = ".wh.".utf8.map { CChar(bitPattern: $0) }
    private static let opaqueName = ".wh..wh..opq".utf8.map { CChar(bitPattern: $0) } + [0]
}
