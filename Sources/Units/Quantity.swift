// SPDX-License-Identifier: Apache-2.0

/// The number grammar that all quantities share: digits with at most one decimal point, no sign, no exponent.
enum Quantity {
    static func number(_ text: some StringProtocol) -> Double? {
        let digits = Array(text.utf8)
        let isDigit = { (byte: UInt8) in byte >= 0x30 && byte <= 0x39 }
        guard let first = digits.first, let last = digits.last, digits.count <= 18 else { return nil }
        guard isDigit(first), isDigit(last) else { return nil }
        var points = 0
        for byte in digits where !isDigit(byte) {
            guard byte == 0x2E else { return nil }
            points += 1
        }
        guard points <= 1 else { return nil }
        return Double(String(text))
    }
}

extension Substring {
    func trimmingSuffix(_ character: Character) -> Substring {
        var rest = self
        while rest.last == character { rest = rest.dropLast() }
        return rest
    }
}
