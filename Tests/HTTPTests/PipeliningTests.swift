// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Synchronization
import Testing

@testable import HTTP

@Suite("Requests behind one that is being answered")
struct PipeliningTests {
    /// Keeps what is asked, to be answered when the test says so.
    final class Desk: Sendable {
        private let open = Mutex<[(path: String, responder: HTTPResponder)]>([])

        var paths: [String] { open.withLock { $0.map(\.path) } }
        func take(_ request: HTTPRequest, _ responder: HTTPResponder) {
            open.withLock { $0.append((request.path, responder)) }
        }
        func answer() {
            let first = open.withLock { $0.removeFirst() }
            first.responder.respond(HTTPResponse(.ok, body: ByteBuffer(string: first.path)))
        }
    }

    let channel = EmbeddedChannel()
    let counter = ReadCounter()
    let desk = Desk()

    /// - Throws: nothing in practice; handlers are added to a fresh channel.
    init() throws {
        let desk = desk
        let connection = HTTPConnection(configuration: HTTPServerConfiguration(), shutdown: ShutdownFlag()) {
            request,
            responder in
            request.path == "/at-once" ? responder.respond(HTTPResponse(.noContent)) : desk.take(request, responder)
        }
        try channel.pipeline.syncOperations.addHandler(counter)
        try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(HTTPRequestDecoder()))
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    func send(_ paths: String..., more: String = "") throws {
        let text = paths.map { "GET \($0) HTTP/1.1\r\nHost: h\r\n\r\n" }.joined() + more
        try channel.writeInbound(ByteBuffer(string: text))
    }

    /// The first line and the body of each answer.
    func answered() throws -> [String] {
        var text = ""
        while case .byteBuffer(let bytes)? = try channel.readOutbound(as: IOData.self) { text += String(buffer: bytes) }
        return text.split(separator: "HTTP/1.1 ")
            .map { answer in
                let parts = String(answer).split(separator: "\r\n\r\n", omittingEmptySubsequences: false)
                return parts[0].prefix(3) + (parts.count > 1 && !parts[1].isEmpty ? " " + parts[1] : "")
            }
    }

    @Test("they wait, and are answered in their order")
    func order() throws {
        try send("/a", "/b")
        try send("/c")
        #expect(desk.paths == ["/a"])
        desk.answer()
        #expect(desk.paths == ["/b"])
        desk.answer()
        desk.answer()
        #expect(try answered() == ["200 /a", "200 /b", "200 /c"])
    }

    @Test("while nothing is behind one the connection may be read, and then not until all is answered")
    func reads() throws {
        try send("/a")
        channel.pipeline.read()
        #expect(counter.reads == 1)
        try send("/b")
        channel.pipeline.read()
        #expect(counter.reads == 1, "held")
        desk.answer()
        #expect(counter.reads == 2, "nothing is behind the second one")
        desk.answer()
        channel.pipeline.read()
        #expect(counter.reads == 3)
    }

    @Test("a thousand that are answered at once do not nest")
    func many() throws {
        try send("/a", more: String(repeating: "GET /at-once HTTP/1.1\r\nHost: h\r\n\r\n", count: 1000))
        #expect(desk.paths == ["/a"])
        desk.answer()
        #expect(try answered() == ["200 /a"] + Array(repeating: "204", count: 1000))
    }

    @Test("what is no HTTP is refused when those before it are answered, and the connection ends")
    func broken() throws {
        try send("/a", "/b", more: "nonsense\r\n\r\n")
        #expect(desk.paths == ["/a"])
        desk.answer()
        desk.answer()
        #expect(try answered() == ["200 /a", "200 /b", "400"])
        #expect(!channel.isActive)
    }

    @Test("a connection that ends with its answer answers nothing behind it")
    func last() throws {
        try channel.writeInbound(ByteBuffer(string: "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n"))
        try send("/b")
        desk.answer()
        #expect(desk.paths.isEmpty)
        #expect(try answered() == ["200 /a"])
        #expect(!channel.isActive)
    }
}
