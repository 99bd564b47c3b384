// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore

/// Recognises JSON without keeping it.
package enum JSONCheck {
    private struct Anything: Decodable {
        init(from decoder: any Decoder) throws {}
    }

    /// Why `payload` is not one JSON value; `nil` when it is.
    package static func problem(_ payload: ByteBuffer) -> String? {
        let isPlain = unsafe payload.withUnsafeReadableBytes { bytes in
            var glance = unsafe JSONGlance(bytes)
            return unsafe glance.isDocument()
        }
        guard !isPlain else { return nil }
        do {
            _ = try JSONDecoder().decode(Anything.self, from: Data(payload.readableBytesView))
            return nil
        } catch DecodingError.dataCorrupted(let context) {
            return context.underlyingError.map { "\($0)" } ?? context.debugDescription
        } catch {
            return "\(error)"
        }
    }
}

/// Sees at a glance that bytes are a JSON object or array, as nearly every event is (RFC 8259, sections 2 to 7).
///
/// `JSONDecoder` makes a map of all values before it says so, which takes longer than the rest of the checks. What is
/// not plain here (other values, escapes by number, bytes that are not UTF-8, much nesting) is the decoder's to judge:
/// it has the last word on everything that is refused.
@unsafe struct JSONGlance {
    private static let mostNesting = 100

    private let bytes: UnsafeRawBufferPointer
    private var position = 0
    private var isASCII = true

    init(_ bytes: UnsafeRawBufferPointer) { unsafe self.bytes = bytes }

    mutating func isDocument() -> Bool {
        unsafe skipSpace()
        let first = unsafe next
        guard first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else { return false }
        guard unsafe value(nesting: 0) else { return false }
        unsafe skipSpace()
        guard unsafe position == bytes.count else { return false }
        return unsafe isASCII || String(validating: bytes, as: UTF8.self) != nil
    }

    private var next: UInt8? { unsafe position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard unsafe next == UInt8(ascii: byte) else { return false }
        unsafe position += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = unsafe next,
            byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
        { unsafe position += 1 }
    }

    private mutating func value(nesting: Int) -> Bool {
        guard unsafe nesting < Self.mostNesting else { return false }
        unsafe skipSpace()
        switch unsafe next {
        case UInt8(ascii: "{"): return unsafe members(nesting)
        case UInt8(ascii: "["): return unsafe elements(nesting)
        case UInt8(ascii: "\""): return unsafe string()
        case UInt8(ascii: "t"): return unsafe word("true")
        case UInt8(ascii: "f"): return unsafe word("false")
        case UInt8(ascii: "n"): return unsafe word("null")
        default: return unsafe number()
        }
    }

    private mutating func members(_ nesting: Int) -> Bool {
        unsafe position += 1
        unsafe skipSpace()
        if unsafe take("}") { return true }
        repeat {
            unsafe skipSpace()
            guard unsafe string() else { return false }
            unsafe skipSpace()
            guard unsafe take(":"), unsafe value(nesting: nesting + 1) else { return false }
            unsafe skipSpace()
        } while unsafe take(",")
        return unsafe take("}")
    }

    private mutating func elements(_ nesting: Int) -> Bool {
        unsafe position += 1
        unsafe skipSpace()
        if unsafe take("]") { return true }
        repeat {
            guard unsafe value(nesting: nesting + 1) else { return false }
            unsafe skipSpace()
        } while unsafe take(",")
        return unsafe take("]")
    }

    private mutating func string() -> Bool {
        guard unsafe take("\"") else { return false }
        while let byte = unsafe next {
            unsafe position += 1
            switch byte {
            case UInt8(ascii: "\""): return true
            case UInt8(ascii: "\\"):
                guard let escape = unsafe next, "\"\\/bfnrt".utf8.contains(escape) else { return false }
                unsafe position += 1
            case 0..<0x20: return false
            case 0x80...: unsafe isASCII = false
            default: break
            }
        }
        return false
    }

    private mutating func word(_ word: String) -> Bool {
        for byte in word.unicodeScalars where unsafe !take(byte) { return false }
        return true
    }

    private mutating func number() -> Bool {
        _ = unsafe take("-")
        if unsafe !take("0") {
            guard unsafe digits() else { return false }
        }
        if unsafe take(".") {
            guard unsafe digits() else { return false }
        }
        guard unsafe take("e") || take("E") else { return true }
        if unsafe !take("+") { _ = unsafe take("-") }
        return unsafe digits()
    }

    private mutating func digits() -> Bool {
        let start = unsafe position
        while let byte = unsafe next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { unsafe position += 1 }
        return unsafe position > start
    }
}
