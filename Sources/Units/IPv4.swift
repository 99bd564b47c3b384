// SPDX-License-Identifier: Apache-2.0

/// An IPv4 address; the number is in host byte order: `10.0.0.1` is `0x0A000001`.
package struct IPv4Address: Sendable, Hashable, Comparable {
    package var raw: UInt32

    package init(raw: UInt32) { self.raw = raw }

    package static func < (a: IPv4Address, b: IPv4Address) -> Bool { a.raw < b.raw }

    /// `127.0.0.0/8`: never reachable from another network namespace.
    package var isLoopback: Bool { raw >> 24 == 127 }
}

extension IPv4Address: LosslessStringConvertible {
    /// Reads four decimal numbers; nothing shorter, and no leading zeros, which some programs read as octal.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var raw: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                part.count == 1 || part.first != "0", let byte = UInt8(part)
            else { return nil }
            raw = raw << 8 | UInt32(byte)
        }
        self.raw = raw
    }

    package var description: String { "\(raw >> 24).\(raw >> 16 & 255).\(raw >> 8 & 255).\(raw & 255)" }
}

/// A block of IPv4 addresses, such as `10.0.0.0/8`.
package struct IPv4Block: Sendable, Hashable {
    /// The first address.
    package let base: IPv4Address
    /// How many leading bits all of its addresses share, 0 to 32.
    package let prefix: Int

    /// - Parameter address: any address of it.
    package init(_ address: IPv4Address, prefix: Int) {
        self.prefix = prefix
        base = IPv4Address(raw: address.raw & Self.mask(prefix))
    }

    private static func mask(_ prefix: Int) -> UInt32 { prefix == 0 ? 0 : ~0 << UInt32(32 - prefix) }

    /// How many addresses it has.
    package var count: Int { 1 << (32 - prefix) }

    package func contains(_ address: IPv4Address) -> Bool { address.raw & Self.mask(prefix) == base.raw }

    package func contains(_ other: IPv4Block) -> Bool { other.prefix >= prefix && contains(other.base) }

    /// Two blocks are apart, or one is within the other.
    package func overlaps(_ other: IPv4Block) -> Bool { contains(other) || other.contains(self) }

    /// The same addresses with no block inside another one, in order.
    package static func merged(_ blocks: [IPv4Block]) -> [IPv4Block] {
        var kept: [IPv4Block] = []
        for block in blocks.sorted(by: { ($0.prefix, $0.base) < ($1.prefix, $1.base) })
        where !kept.contains(where: { $0.contains(block) }) {
            kept.append(block)
        }
        return kept.sorted { $0.base < $1.base }
    }

    /// Reads blocks that are separated by commas; `nil` if one of them is none.
    package static func list(_ text: String) -> [IPv4Block]? {
        let parts = text.split(separator: ",").map { $0.filter { $0 != " " } }
        let blocks = parts.compactMap { IPv4Block($0) }
        return blocks.count == parts.count ? blocks : nil
    }
}

extension IPv4Block: LosslessStringConvertible {
    /// Reads `10.0.0.0/8`, or a single address. Bits behind the prefix are a slip of the pen, and refused.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let address = IPv4Address(String(parts[0])) else { return nil }
        var prefix = 32
        if parts.count == 2 {
            guard parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let bits = Int(parts[1]), bits <= 32
            else { return nil }
            prefix = bits
        }
        self.init(address, prefix: prefix)
        guard base == address else { return nil }
    }

    package var description: String { prefix == 32 ? "\(base)" : "\(base)/\(prefix)" }
}
