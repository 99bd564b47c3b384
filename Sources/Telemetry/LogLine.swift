// SPDX-License-Identifier: Apache-2.0

/// One line of a function's log.
package struct LogLine: Codable, Sendable, Equatable {
    /// ISO 8601 with milliseconds.
    package var time: String
    package var requestId: String?
    package var sandbox: String?
    package var message: String

    package init(time: String, requestId: String?, sandbox: String?, message: String) {
        self.time = time
        self.requestId = requestId
        self.sandbox = sandbox
        self.message = message
    }

    /// Whether it belongs to a request whose id begins so; any line does where none is asked for.
    package func isOf(_ request: String?) -> Bool { request.map { requestId?.hasPrefix($0) ?? false } ?? true }

    /// As a JSON object and a newline, by hand: three lines of every call are written, and `JSONEncoder` takes longer
    /// over them than the daemon takes over the call.
    func appendJSON(to bytes: inout [UInt8]) {
        JSONLine.append("{\"time\":", time, to: &bytes)
        if let requestId { JSONLine.append(",\"requestId\":", requestId, to: &bytes) }
        if let sandbox { JSONLine.append(",\"sandbox\":", sandbox, to: &bytes) }
        JSONLine.append(",\"message\":", message, to: &bytes)
        bytes += [UInt8(ascii: "}"), UInt8(ascii: "\n")]
    }
}

/// JSON of one line, by hand.
enum JSONLine {
    /// A member with a string as its value (RFC 8259, section 7: quotes, backslashes and controls are escaped).
    static func append(_ name: StaticString, _ value: String, to bytes: inout [UInt8]) {
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        bytes.append(UInt8(ascii: "\""))
        var value = value
        let isPlain = value.withUTF8 { text in
            let isPlain = unsafe text.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
            if isPlain { unsafe bytes.append(contentsOf: text) }  // most are
            return isPlain
        }
        for byte in isPlain ? "".utf8 : value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\t"): bytes += [UInt8(ascii: "\\"), UInt8(ascii: "t")]
            case 0..<0x20: bytes += Array("\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
