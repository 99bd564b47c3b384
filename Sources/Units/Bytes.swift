// SPDX-License-Identifier: Apache-2.0

/// An amount of memory or storage, in bytes.
///
/// A type of its own, so that a limit is never mistaken for a count of pages or of mebibytes. Written the way
/// `fn.yaml` and the command line spell it: `256MiB`, `1.5GiB`, `64KB`, or a bare number of bytes.
package struct Bytes: Sendable, Hashable, Comparable, Codable {
    /// The number of bytes; differences may be negative.
    package var count: Int64

    package init(_ count: Int64) { self.count = count }

    package init(from decoder: any Decoder) throws {
        count = try decoder.singleValueContainer().decode(Int64.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(count)
    }

    package static let zero = Bytes(0)
    package static func kib(_ n: Int64) -> Bytes { Bytes(n << 10) }
    package static func mib(_ n: Int64) -> Bytes { Bytes(n << 20) }
    package static func gib(_ n: Int64) -> Bytes { Bytes(n << 30) }

    /// Whole mebibytes, rounded up: what Lambda's `MemorySize` and `Max Memory Used` speak.
    package var mebibytes: Int { Int((count + (1 << 20) - 1) >> 20) }

    package static func < (a: Bytes, b: Bytes) -> Bool { a.count < b.count }
    package static func + (a: Bytes, b: Bytes) -> Bytes { Bytes(a.count + b.count) }
    package static func - (a: Bytes, b: Bytes) -> Bytes { Bytes(a.count - b.count) }
    package static func += (a: inout Bytes, b: Bytes) { a.count += b.count }
    package static func -= (a: inout Bytes, b: Bytes) { a.count -= b.count }
    package static func * (a: Bytes, factor: Double) -> Bytes { Bytes(Int64(Double(a.count) * factor)) }
}

extension Bytes: LosslessStringConvertible {
    /// Unit suffixes, longest match first: binary (`KiB`) and decimal (`KB`) are different things and both exist.
    private static let suffixes: [(name: String, factor: Double)] = [
        ("KiB", 1024), ("MiB", 1_048_576), ("GiB", 1_073_741_824), ("TiB", 1_099_511_627_776),
        ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12),
        ("B", 1), ("", 1),
    ]

    /// Reads `256MiB`, `1.5 GiB`, `64KB`, `512B` or a bare count of bytes; `nil` for anything else.
    package init?(_ text: String) {
        for (name, factor) in Bytes.suffixes where text.hasSuffix(name) {
            let digits = text.dropLast(name.count).trimmingSuffix(" ")
            guard let value = Quantity.number(digits), value * factor < 9e18 else { return nil }
            self.init(Int64(value * factor))
            return
        }
        return nil
    }

    /// The exact value in the largest binary unit that divides it: `256MiB`, `1536KiB`, `4097B`.
    package var description: String {
        guard count != 0 else { return "0B" }
        for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let unit = Int64(1) << Int64(shift)
            if count % unit == 0 { return "\(count / unit)\(name)" }
        }
        return "\(count)B"
    }

    /// For people's eyes, to one decimal: `41.3MiB`. Not exact.
    package var rounded: String {
        let magnitude = abs(count)
        for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] where magnitude >> Int64(shift) > 0 {
            let tenths = (Double(count) / Double(Int64(1) << Int64(shift)) * 10).rounded()
            let whole = Int64(tenths / 10)
            let tenth = abs(Int64(tenths) % 10)
            return tenth == 0 ? "\(whole)\(name)" : "\(whole).\(tenth)\(name)"
        }
        return "\(count)B"
    }
}
