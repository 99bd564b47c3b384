// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// Puts an answer into the form of HTTP/1.1 (RFC 9112, sections 4 to 7), in as few buffers as may be: a small one is one.
///
/// NIO's encoder is handed an answer in three parts, each of which passes every handler and is boxed on the way.
struct AnswerWriter {
    /// A larger body is not copied to stand behind its head.
    private static let copied = 16 << 10
    private static let lineEnd: StaticString = "\r\n"

    private let allocator: ByteBufferAllocator
    /// Whether the answer that has begun is sent in chunks (RFC 9112, section 7.1).
    private(set) var isChunked = false

    init(_ allocator: ByteBufferAllocator) { self.allocator = allocator }

    /// A whole answer.
    ///
    /// - Parameters:
    ///   - headers: of these, what says how long it is or whether the connection ends is not taken over.
    ///   - body: what is sent of it.
    ///   - length: what `Content-Length` says, in bytes; `nil` where the status allows no body.
    ///   - closes: whether the connection ends behind it.
    func whole(
        _ status: HTTPResponseStatus,
        _ headers: HTTPHeaders,
        body: ByteBuffer,
        length: Int?,
        closes: Bool
    ) -> [ByteBuffer] {
        let isSmall = body.readableBytes <= Self.copied
        var head = allocator.buffer(capacity: 512 + (isSmall ? body.readableBytes : 0))
        Self.begin(status, &head)
        for (name, value) in headers where !Self.isFraming(name, closes) { Self.write(name, value, to: &head) }
        if let length { Self.write("Content-Length", String(length), to: &head) }
        if closes { Self.write("Connection", "close", to: &head) }
        head.writeStaticString(Self.lineEnd)
        if isSmall { head.writeImmutableBuffer(body) }
        return isSmall ? [head] : [head, body]
    }

    private static func isFraming(_ name: String, _ closes: Bool) -> Bool {
        func `is`(_ other: String) -> Bool { name.utf8.elementsEqual(other.utf8) { $0 | 0x20 == $1 } }
        // By their lengths first: few names are as long as one of these.
        switch name.utf8.count {
        case 10: return closes && `is`("connection")
        case 14: return `is`("content-length")
        case 17: return `is`("transfer-encoding")
        default: return false
        }
    }

    /// The head of an answer whose pieces follow: in chunks, unless their length is given or there may be none.
    mutating func begin(_ status: HTTPResponseStatus, _ headers: HTTPHeaders) -> ByteBuffer {
        isChunked = status.mayHaveResponseBody && !headers.contains(name: "Content-Length")
        var headers = headers
        headers.remove(name: "Transfer-Encoding")
        if !status.mayHaveResponseBody { headers.remove(name: "Content-Length") }
        if isChunked { headers.add(name: "Transfer-Encoding", value: "chunked") }
        var head = allocator.buffer(capacity: 512)
        Self.begin(status, &head)
        Self.write(headers, to: &head)
        return head
    }

    func piece(_ bytes: ByteBuffer) -> [ByteBuffer] {
        // An empty chunk would be the last one.
        guard isChunked, bytes.readableBytes > 0 else { return [bytes] }
        let size = String(bytes.readableBytes, radix: 16)
        guard bytes.readableBytes > Self.copied else {
            var chunk = allocator.buffer(capacity: bytes.readableBytes + size.utf8.count + 4)
            chunk.writeString(size)
            chunk.writeStaticString(Self.lineEnd)
            chunk.writeImmutableBuffer(bytes)
            chunk.writeStaticString(Self.lineEnd)
            return [chunk]
        }
        return [allocator.buffer(string: size + "\r\n"), bytes, allocator.buffer(staticString: Self.lineEnd)]
    }

    /// What ends an answer that was begun.
    func end(_ trailers: HTTPHeaders?) -> ByteBuffer {
        guard isChunked else { return ByteBuffer() }
        var last = allocator.buffer(capacity: 256)
        last.writeStaticString("0\r\n")
        Self.write(trailers ?? [:], to: &last)
        return last
    }

    /// Tells a peer that asked first to send its body.
    func goOn() -> ByteBuffer { allocator.buffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n") }

    private static func begin(_ status: HTTPResponseStatus, _ head: inout ByteBuffer) {
        head.writeStaticString("HTTP/1.1 ")
        head.writeString(String(status.code))
        head.writeStaticString(" ")
        head.writeString(status.reasonPhrase)
        head.writeStaticString(lineEnd)
    }

    private static func write(_ headers: HTTPHeaders, to buffer: inout ByteBuffer) {
        for (name, value) in headers { write(name, value, to: &buffer) }
        buffer.writeStaticString(lineEnd)
    }

    private static func write(_ name: String, _ value: String, to buffer: inout ByteBuffer) {
        buffer.writeString(name)
        buffer.writeStaticString(": ")
        // A line's end would begin another field, or another answer: RFC 9110, section 5.5, has a space in its place.
        let isOneLine = value.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x09 }
        if isOneLine { buffer.writeString(value) } else { buffer.writeBytes(value.utf8.map { max($0, 0x20) }) }
        buffer.writeStaticString(lineEnd)
    }
}
