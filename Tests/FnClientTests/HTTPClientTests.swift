// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Glibc
import Testing

@testable import FnClient

@Suite("The client")
struct HTTPClientTests {
    /// Reads an answer from a pipe-like socket that was filled and closed.
    private func read(_ text: String, onBody: (([UInt8]) -> Void)? = nil) throws -> HTTPAnswer {
        var ends: [CInt] = [0, 0]
        #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        var text = text
        _ = text.withUTF8 { unsafe write(ends[1], $0.baseAddress, $0.count) }
        close(ends[1])
        defer { close(ends[0]) }
        return try AnswerReader(fd: ends[0]).read(onBody: onBody)
    }

    @Test("answers with a length, in chunks, and until the end are read")
    func bodies() throws {
        #expect(try read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc").body == Array("abc".utf8))
        #expect(
            try read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").body
                == Array("abc".utf8)
        )
        #expect(try read("HTTP/1.1 200 OK\r\n\r\nabc").body == Array("abc".utf8))
        #expect(try read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").status == 204)
    }

    @Test("an answer that is cut short is an error")
    func broken() {
        #expect(throws: ClientError.self) { try read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc") }
        #expect(throws: ClientError.self) { try read("") }
    }

    @Test("a daemon that is not there is said to be so, with what to do")
    func unreachable() {
        let error = #expect(throws: ClientError.self) { try HTTPClient(.unix("/no/such.sock")).call("GET", "/") }
        #expect(error?.description.contains("Start it with `fnd`") == true)
    }

    @Test("base64 goes there and back, and nonsense is refused")
    func base64() {
        #expect(Base64.decode(Base64.encode([0, 255, 7])) == [0, 255, 7])
        #expect(Base64.decode("%%%") == nil)
    }
}
