// SPDX-License-Identifier: Apache-2.0

/// A key, as a terminal in raw mode sends it.
enum Key: Equatable {
    case character(Character)
    case enter
    case escape
    case backspace
    case tab
    case up
    case down
    case pageUp
    case pageDown
    case home
    case end
    /// Ctrl-C and Ctrl-Z, which raw mode does not turn into signals.
    case interrupt
    case suspend

    /// Reads what came in one piece. An escape with nothing behind it is the key; sequences that are not known are no
    /// keys at all.
    static func read(_ bytes: [UInt8]) -> [Key] {
        var (keys, rest) = ([Key](), bytes[...])
        while let byte = rest.popFirst() {
            switch byte {
            case 0x03: keys.append(.interrupt)
            case 0x1A: keys.append(.suspend)
            case 0x09: keys.append(.tab)
            case 0x0A, 0x0D: keys.append(.enter)
            case 0x08, 0x7F: keys.append(.backspace)
            case 0x1B: if let key = sequence(&rest) { keys.append(key) }
            case 0x20...0x7E: keys.append(.character(Character(UnicodeScalar(byte))))
            case 0xC2...0xF4: keys += text(byte, &rest)
            default: break
            }
        }
        return keys
    }

    /// What follows an escape: CSI or SS3, parameters, and a final byte (ECMA-48, 5.4).
    private static func sequence(_ rest: inout ArraySlice<UInt8>) -> Key? {
        guard let kind = rest.first, kind == UInt8(ascii: "[") || kind == UInt8(ascii: "O") else { return .escape }
        rest.removeFirst()
        let parameters = rest.prefix { (0x20...0x3F).contains($0) }
        rest = rest.dropFirst(parameters.count)
        switch (rest.popFirst().map { UnicodeScalar($0) }, String(decoding: parameters, as: UTF8.self)) {
        case ("A", _): return .up
        case ("B", _): return .down
        case ("H", _), ("~", "1"), ("~", "7"): return .home
        case ("F", _), ("~", "4"), ("~", "8"): return .end
        case ("~", "5"): return .pageUp
        case ("~", "6"): return .pageDown
        default: return nil
        }
    }

    /// One character of two to four bytes of UTF-8.
    private static func text(_ first: UInt8, _ rest: inout ArraySlice<UInt8>) -> [Key] {
        let tail = rest.prefix(first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3)
        rest = rest.dropFirst(tail.count)
        return String(decoding: [first] + tail, as: UTF8.self).map { .character($0) }
    }
}
