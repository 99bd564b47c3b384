// SPDX-License-Identifier: Apache-2.0

extension Duration {
    /// Reads `250ms`, `30s`, `1.5m`, `6h` or `2d`; `nil` for anything else, a bare number included.
    package init?(text: String) {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        for (suffix, factor) in units where text.hasSuffix(suffix) {
            guard let value = Quantity.number(text.dropLast(suffix.count)), value * factor < 1e9 else { continue }
            self = .milliseconds(Int64((value * factor * 1000).rounded()))
            return
        }
        return nil
    }

    /// Whole milliseconds, rounded down.
    package var milliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }

    /// Seconds as a floating-point number, for arithmetic and display.
    package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }

    /// The exact value in the largest unit that divides it: `30s`, `1500ms`, `10m`.
    package var text: String {
        let ms = milliseconds
        guard ms != 0 else { return "0s" }
        for (unit, name) in [(Int64(86_400_000), "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")]
        where ms % unit == 0 {
            return "\(ms / unit)\(name)"
        }
        return "\(ms)ms"
    }
}
