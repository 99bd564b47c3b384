// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import Testing

@testable import HTTP

@Suite("The form of an answer")
struct AnswerWriterTests {
    private var writer = AnswerWriter(ByteBufferAllocator())

    private func text(_ buffers: [ByteBuffer]) -> String { buffers.map { String(buffer: $0) }.joined() }

    private func whole(_ body: ByteBuffer, _ headers: HTTPHeaders = [:], closes: Bool = false) -> [ByteBuffer] {
        writer.whole(.ok, headers, body: body, length: body.readableBytes, closes: closes)
    }

    @Test("what is said of its length and its connection is true, whatever else was said of them")
    func framing() {
        let headers: HTTPHeaders = [
            "content-length": "999", "Transfer-Encoding": "chunked", "CONNECTION": "keep-alive", "X-Content-Len": "7",
        ]
        let body = ByteBuffer(string: "{}")
        let start = "HTTP/1.1 200 OK\r\n"
        let kept = text(whole(body, headers))
        #expect(kept == start + "CONNECTION: keep-alive\r\nX-Content-Len: 7\r\nContent-Length: 2\r\n\r\n{}")
        let closed = text(whole(body, headers, closes: true))
        #expect(closed == start + "X-Content-Len: 7\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        let none = writer.whole(.noContent, headers, body: ByteBuffer(), length: nil, closes: false)
        #expect(text(none) == "HTTP/1.1 204 No Content\r\nCONNECTION: keep-alive\r\nX-Content-Len: 7\r\n\r\n")
    }

    @Test("a small answer is one piece, a large one is not copied")
    func whole() {
        let small = whole(ByteBuffer(string: "{}"))
        #expect(small.count == 1 && text(small) == "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        let large = whole(ByteBuffer(repeating: 0x61, count: 1 << 20))
        #expect(large.count == 2 && text(large).utf8.count == (1 << 20) + 44)
    }

    @Test("no value of a header begins another header, or another answer", arguments: ["\r\n", "\n", "\r", "\0"])
    func splitting(end: String) {
        let value = "a\(end)Set-Cookie: x=1\(end)\(end)HTTP/1.1 200 OK"
        let answer = text(whole(ByteBuffer(), ["X-From": value]))
        let space = String(repeating: " ", count: end.utf8.count)
        #expect(
            answer
                == "HTTP/1.1 200 OK\r\nX-From: a\(space)Set-Cookie: x=1\(space)\(space)HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        )
    }

    @Test("pieces without a known length are chunks, and none of them is the last one by accident")
    mutating func chunks() {
        #expect(text([writer.begin(.ok, [:])]) == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        #expect(text(writer.piece(ByteBuffer(string: "abc"))) == "3\r\nabc\r\n")
        #expect(text(writer.piece(ByteBuffer())).isEmpty)
        #expect(text(writer.piece(ByteBuffer(repeating: 0x61, count: 20_000))).hasPrefix("4e20\r\naaa"))
        #expect(text([writer.end(["X-Error": "late"])]) == "0\r\nX-Error: late\r\n\r\n")
    }

    @Test("an answer of a given length, or without a body, has no chunks")
    mutating func plain() {
        #expect(!text([writer.begin(.ok, ["Content-Length": "3"])]).contains("chunked"))
        #expect(text(writer.piece(ByteBuffer(string: "abc"))) == "abc")
        #expect(text([writer.end(nil)]).isEmpty)
        #expect(text([writer.begin(.noContent, [:])]) == "HTTP/1.1 204 No Content\r\n\r\n")
    }
}
