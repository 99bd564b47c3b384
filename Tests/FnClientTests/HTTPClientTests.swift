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
        return try AnswerReader(fd: ends[0]) {}.read(onBody: onBody)
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

    @Test("addresses are names, IPv4, or IPv6 in brackets; what is none of them is said")
    func addresses() throws {
        #expect(try HTTPClient.Address(url: "http://127.0.0.1:9000") == .tcp(host: "127.0.0.1", port: 9000))
        #expect(try HTTPClient.Address(url: "http://ebb/") == .tcp(host: "ebb", port: 80))
        #expect(try HTTPClient.Address(url: "http://[::1]:9000/") == .tcp(host: "::1", port: 9000))
        #expect(try HTTPClient.Address(url: "http://[::1]:9000").description == "http://[::1]:9000")
        for wrong in ["ftp://x", "127.0.0.1:9000", "http://", "http://[::1", "http://[::1]9", "http://:80"] {
            #expect(throws: AddressError.notHTTP(wrong)) { try HTTPClient.Address(url: wrong) }
        }
        #expect(throws: AddressError.encrypted("https://x")) { try HTTPClient.Address(url: "https://x") }
        #expect(throws: AddressError.badPort("70000")) { try HTTPClient.Address(url: "http://x:70000") }
        #expect(throws: AddressError.badPort("0")) { try HTTPClient.Address(url: "http://x:0") }
        #expect(throws: AddressError.credentials) { try HTTPClient.Address(url: "http://a:b@x") }
    }

    @Test("names are found as hosts(5) has them")
    func hosts() {
        let text = "127.0.0.1 localhost\n# 1.1.1.1 ebb\n10.0.0.7\tebb.example  Ebb # ours\n::7 ebb\n"
        #expect(HostsFile.addresses(of: "ebb", in: text) == ["10.0.0.7", "::7"])
        #expect(HostsFile.addresses(of: "ours", in: text).isEmpty)
    }

    @Test("a daemon that takes connections and says nothing is given up")
    func silence() throws {
        let path = "/tmp/ebb-silent-\(getpid()).sock"
        defer { unsafe unlink(path) }
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listener, 8) == 0)
        let client = HTTPClient(.unix(path), patience: .milliseconds(50))
        #expect(throws: ClientError.silent(path)) { try client.call("GET", "/") }
    }

    @Test("base64 goes there and back, and nonsense is refused")
    func base64() {
        #expect(Base64.decode(Base64.encode([0, 255, 7])) == [0, 255, 7])
        #expect(Base64.decode("%%%") == nil)
    }
}
