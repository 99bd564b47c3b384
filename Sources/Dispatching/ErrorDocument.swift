// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore

/// The error documents that callers of a failed function receive: Lambda's members, and ours beside them.
package struct ErrorDocument: Encodable, Sendable {
    package var errorType: String
    package var errorMessage: String
    package var limitMB: Int?
    package var peakMB: Int?
    package var timeoutMs: Int64?
    package var hint: String?

    package init(_ type: String, _ message: String) {
        errorType = type
        errorMessage = message
    }

    /// As JSON. Encoding strings and integers cannot fail.
    package var json: ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let data = (try? encoder.encode(self)) ?? Data(#"{"errorType":"Runtime.Unknown"}"#.utf8)
        return ByteBuffer(bytes: data)
    }
}
