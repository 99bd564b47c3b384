// SPDX-License-Identifier: Apache-2.0

/// A share of processor time, in thousandths of one CPU.
///
/// `1.5` or `150%` is one and a half CPUs: 150 ms of `cpu.max` quota in every 100 ms period.
package struct CPUQuota: Sendable, Hashable, Comparable, Codable {
    /// Thousandths of one CPU.
    package var millis: Int

    package init(millis: Int) { self.millis = millis }

    package init(from decoder: any Decoder) throws {
        millis = try decoder.singleValueContainer().decode(Int.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(millis)
    }

    package static let one = CPUQuota(millis: 1000)
    package static func < (a: CPUQuota, b: CPUQuota) -> Bool { a.millis < b.millis }
}

extension CPUQuota: LosslessStringConvertible {
    /// Reads cores (`0.5`, `2`) or a percentage of one core (`50%`, `200%`); `nil` for anything else.
    package init?(_ text: String) {
        let isPercent = text.hasSuffix("%")
        guard let value = Quantity.number(isPercent ? text.dropLast() : text[...]), value < 100_000 else { return nil }
        self.init(millis: Int((value * (isPercent ? 10 : 1000)).rounded()))
    }

    /// Cores without trailing zeros: `1`, `0.5`, `1.25`.
    package var description: String {
        guard millis % 1000 != 0 else { return "\(millis / 1000)" }
        var fraction = String(1000 + millis % 1000).dropFirst()
        while fraction.last == "0" { fraction = fraction.dropLast() }
        return "\(millis / 1000).\(fraction)"
    }
}
