// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import FnProtocol
import NIOCore

/// Messages of `application/vnd.amazon.eventstream`: total length, header length and their CRC, headers, payload, CRC of
/// all before; big-endian, CRC-32 as in gzip.
enum EventStreamMessage {
    /// A function's whole answer as Lambda streams it: its bytes, then how it ended.
    static func answer(_ body: ByteBuffer, error: String?, log: String?) -> ByteBuffer {
        let failed = error != nil
        var stream = failed || body.readableBytes == 0 ? ByteBuffer() : chunk(body)
        stream.writeImmutableBuffer(end(error: failed ? String(buffer: body) : nil, log: log))
        return stream
    }

    /// A piece of an answer.
    static func chunk(_ body: ByteBuffer) -> ByteBuffer {
        var stream = ByteBuffer()
        append("PayloadChunk", "application/octet-stream", Array(body.readableBytesView), to: &stream)
        return stream
    }

    /// The last message: how the function ended.
    ///
    /// - Parameter error: the error document of a function that failed.
    static func end(error: String?, log: String?) -> ByteBuffer {
        struct End: Encodable {
            var ErrorCode: String?
            var ErrorDetails: String?
            var LogResult: String?
        }
        let end = End(ErrorCode: error == nil ? nil : "Unhandled", ErrorDetails: error, LogResult: log)
        var stream = ByteBuffer()
        append("InvokeComplete", "application/json", Array(JSONText.encode(end).utf8), to: &stream)
        return stream
    }

    static func append(_ event: String, _ type: String, _ payload: [UInt8], to stream: inout ByteBuffer) {
        var headers = ByteBuffer()
        for (name, value) in [(":event-type", event), (":content-type", type), (":message-type", "event")] {
            headers.writeInteger(UInt8(name.utf8.count))
            headers.writeString(name)
            headers.writeInteger(UInt8(7))  // a string follows
            headers.writeInteger(UInt16(value.utf8.count))
            headers.writeString(value)
        }
        var message = ByteBuffer()
        message.writeInteger(UInt32(16 + headers.readableBytes + payload.count))
        message.writeInteger(UInt32(headers.readableBytes))
        message.writeInteger(CRC32.of(message.readableBytesView))
        message.writeBuffer(&headers)
        message.writeBytes(payload)
        message.writeInteger(CRC32.of(message.readableBytesView))
        stream.writeBuffer(&message)
    }
}
