// SPDX-License-Identifier: Apache-2.0
import Linux

/// Spans as an `ExportTraceServiceRequest` in OTLP's JSON encoding: lower-camel names, ids in hexadecimal, 64-bit
/// integers as strings, enumerations as numbers (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding").
///
/// By hand: it is written for every traced call, and has one shape.
struct OTLPDocument {
    /// Longer texts are cut: they come from callers.
    private static let textLimit = 1024

    private(set) var bytes: [UInt8] = []
    /// What the monotonic clock has to be moved by to tell the time of day.
    private let offset: Int64

    /// - Parameters:
    ///   - resource: what sends them.
    ///   - offset: nanoseconds from the monotonic clock to the time since 1970.
    init(_ spans: [Span], resource: [(String, String)], version: String, offset: Int64) {
        self.offset = offset
        bytes.reserveCapacity(spans.count * 800 + 400)
        add(#"{"resourceSpans":[{"resource":{"attributes":["#)
        list(resource) { document, attribute in document.attribute(attribute.0, .text(attribute.1)) }
        add(#"]},"scopeSpans":[{"scope":{"name":"ebb","version":"#)
        add(text: version)
        add(#"},"spans":["#)
        list(spans) { document, span in document.span(span) }
        add("]}]}]}")
    }

    private mutating func span(_ span: Span) {
        add(#"{"traceId":""#)
        bytes += span.context.trace.text.utf8
        add(#"","spanId":""#)
        bytes += span.context.span.text.utf8
        if let parent = span.parent {
            add(#"","parentSpanId":""#)
            bytes += parent.text.utf8
        }
        if let state = span.context.state {
            add(#"","traceState":"#)
            add(text: state)
            add(#","name":"#)
        } else {
            add(#"","name":"#)
        }
        add(text: span.name)
        // The lowest byte is W3C's; sampled, or it would not be here.
        add(#","flags":1,"kind":"#)
        bytes += String(span.kind.rawValue).utf8
        add(#","startTimeUnixNano":""#)
        bytes += String(span.began + offset).utf8
        add(#"","endTimeUnixNano":""#)
        bytes += String(span.ended + offset).utf8
        add(#"","attributes":["#)
        list(span.attributes) { document, attribute in document.attribute(attribute.name, attribute.value) }
        add("]")
        if let error = span.error {
            add(#","status":{"code":2,"message":"#)
            add(text: error)
            add("}")
        }
        add("}")
    }

    private mutating func attribute(_ name: String, _ value: Span.Value) {
        add(#"{"key":"#)
        add(text: name)
        switch value {
        case .text(let text):
            add(#","value":{"stringValue":"#)
            add(text: text)
        case .number(let number):
            add(#","value":{"intValue":""#)
            bytes += String(number).utf8
            add("\"")
        case .flag(let flag): add(flag ? #","value":{"boolValue":true"# : #","value":{"boolValue":false"#)
        }
        add("}}")
    }

    private mutating func list<Element>(_ elements: [Element], _ body: (inout OTLPDocument, Element) -> Void) {
        for (index, element) in elements.enumerated() {
            if index > 0 { add(",") }
            body(&self, element)
        }
    }

    private mutating func add(_ text: StaticString) {
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// A JSON string (RFC 8259, section 7).
    private mutating func add(text: String) {
        bytes.append(UInt8(ascii: "\""))
        let text = text.utf8.count <= Self.textLimit ? text : String(text.prefix(Self.textLimit / 4))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case 0..<0x20: bytes += Array("\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
