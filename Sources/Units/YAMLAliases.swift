// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What aliases (`*name`) can make of a small YAML text.
///
/// An alias stands for all that its anchor (`&name`) holds, aliases included: ten lines may stand for a thousand million
/// values, and whoever looks at all of them is busy for ever.
package enum YAMLAliases {
    /// How many values a text may stand for.
    private static let most = 5e6

    /// Whether a text could stand for too much. Never wrong where it says no.
    ///
    /// What looks like an alias or an anchor is counted as one, in comments and quotes too. With `a` aliases, and anchors
    /// in `k` levels, the most is made of `a / k` aliases a level, and there are no more levels than anchors.
    package static func areTooMany(in text: String) -> Bool {
        var (aliases, anchors, last) = (0.0, 0.0, UInt8(ascii: " "))
        for byte in text.utf8 {
            let isName = byte > UInt8(ascii: " ")
            if isName, last == UInt8(ascii: "*") { aliases += 1 }
            if isName, last == UInt8(ascii: "&") { anchors += 1 }
            last = byte
        }
        guard aliases > 0, anchors > 0 else { return false }
        let levels = min(anchors, max(1, aliases / M_E))
        return pow(aliases / levels, levels) * Double(text.utf8.count) > most
    }
}
