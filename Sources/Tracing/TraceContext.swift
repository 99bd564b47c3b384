// SPDX-License-Identifier: Apache-2.0
import Linux

/// 16 bytes that all spans of one trace share; never all zero.
package struct TraceID: Sendable, Equatable {
    package var high: UInt64
    package var low: UInt64

    package init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

    static func random() -> TraceID {
        TraceID(high: .random(in: .min ... .max), low: .random(in: 1 ... .max))
    }

    /// 32 hexadecimal digits, as in `traceparent` and in OTLP's JSON.
    package var text: String { Hex.text(high) + Hex.text(low) }
}

/// 8 bytes, never all zero.
package struct SpanID: Sendable, Equatable {
    package var value: UInt64

    package init(_ value: UInt64) { self.value = value }

    package static func random() -> SpanID { SpanID(.random(in: 1 ... .max)) }

    /// 16 hexadecimal digits.
    package var text: String { Hex.text(value) }
}

/// Where in which trace something happens: what goes from a caller to whom it calls (W3C Trace Context, level 1).
package struct TraceContext: Sendable, Equatable {
    package var trace: TraceID
    package var span: SpanID
    /// Whether the caller records it, and whoever is called should.
    package var isSampled: Bool
    /// The value of `tracestate`, as it came.
    package var state: String?

    package init(trace: TraceID, span: SpanID, isSampled: Bool, state: String? = nil) {
        (self.trace, self.span, self.isSampled, self.state) = (trace, span, isSampled, state)
    }

    /// Reads a `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`. `nil` is one that does not count, and then a trace begins.
    ///
    /// Of later versions what comes behind is ignored, as the specification asks for.
    package init?(traceparent text: String, state: String? = nil) {
        let bytes = Array(text.utf8)
        let dash = UInt8(ascii: "-")
        guard bytes.count >= 55, bytes[2] == dash, bytes[35] == dash, bytes[52] == dash,
            let version = Hex.value(bytes[0..<2]), version != 0xFF,
            bytes.count == 55 || (version != 0 && bytes[55] == dash),
            let high = Hex.value(bytes[3..<19]), let low = Hex.value(bytes[19..<35]), high | low != 0,
            let span = Hex.value(bytes[36..<52]), span != 0,
            let flags = Hex.value(bytes[53..<55])
        else { return nil }
        self.init(
            trace: TraceID(high: high, low: low),
            span: SpanID(span),
            isSampled: flags & 1 == 1,
            state: state.flatMap(Self.bounded)
        )
    }

    /// As it is sent on.
    package var traceparent: String { "00-\(trace.text)-\(span.text)-\(isSampled ? "01" : "00")" }

    /// The leading members of a `tracestate`, no more than 32 and 512 characters: what everybody has to pass on. `nil`
    /// for what may not stand in one.
    private static func bounded(_ state: String) -> String? {
        guard state.utf8.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x09 }) else { return nil }
        var kept: [Substring] = []
        var length = 0
        for member in state.split(separator: ",") where member.contains("=") {
            guard kept.count < 32, length + member.utf8.count + 1 <= 513 else { break }
            kept.append(member)
            length += member.utf8.count + 1
        }
        return kept.isEmpty ? nil : kept.joined(separator: ",")
    }
}

/// Amazon's older header for the same: `Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0|1`.
extension TraceContext {
    /// Reads an `X-Amzn-Trace-Id` that names a parent; one that does not is an id of its sender's own.
    package init?(amazon text: String) {
        var (trace, parent, isSampled) = (TraceID?.none, SpanID?.none, false)
        for field in text.split(separator: ";") {
            let parts = field.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            switch parts[0].drop(while: { $0 == " " }) {
            case "Root":
                let root = Array(parts[1].utf8)
                guard root.count == 35, root.starts(with: "1-".utf8), root[10] == UInt8(ascii: "-") else { return nil }
                let digits = Array(root[2..<10] + root[11...])
                guard let high = Hex.value(digits[0..<16]), let low = Hex.value(digits[16..<32]) else { return nil }
                trace = TraceID(high: high, low: low)
            case "Parent":
                let digits = Array(parts[1].utf8)
                guard digits.count == 16, let value = Hex.value(digits[...]), value != 0 else { return nil }
                parent = SpanID(value)
            case "Sampled": isSampled = parts[1] == "1"
            default: break
            }
        }
        guard let trace, let parent, trace.high | trace.low != 0 else { return nil }
        self.init(trace: trace, span: parent, isSampled: isSampled)
    }

    /// As a runtime is told it where the caller sent none of its own.
    package var amazon: String {
        // In one go: every call has one.
        var text: [UInt8] = []
        text.reserveCapacity(74)
        text += "Root=1-".utf8
        Hex.write(trace.high >> 32, 8, to: &text)
        text.append(UInt8(ascii: "-"))
        Hex.write(trace.high, 8, to: &text)
        Hex.write(trace.low, 16, to: &text)
        text += ";Parent=".utf8
        Hex.write(span.value, 16, to: &text)
        text += (isSampled ? ";Sampled=1" : ";Sampled=0").utf8
        return String(decoding: text, as: UTF8.self)
    }

    private static let random = RandomWords()

    /// What a call has that nobody traces: every call of Lambda's has one, and functions write it into their logs.
    ///
    /// - Parameter now: milliseconds since the epoch, of which the root bears the seconds.
    package static func untraced(at now: Int64) -> String {
        let (first, second) = random.pair()
        let (span, _) = random.pair()
        let high = UInt64(UInt32(truncatingIfNeeded: now / 1000)) << 32 | first >> 32
        let place = TraceContext(trace: TraceID(high: high, low: second), span: SpanID(span | 1), isSampled: false)
        return place.amazon
    }
}

/// Fixed-width small hexadecimal.
enum Hex {
    static func text(_ value: UInt64) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(16)
        write(value, 16, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// The last `count` digits.
    static func write(_ value: UInt64, _ count: Int, to text: inout [UInt8]) {
        for place in (0..<count).reversed() {
            let digit = UInt8(truncatingIfNeeded: value >> UInt64(4 * place)) & 0xF
            text.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }

    /// `nil` when there is anything but small hexadecimal digits in it.
    static func value(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return value
    }
}
