// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Synchronization
import Testing

@testable import HTTP

@Suite("A body that is passed on as it arrives")
struct StreamedBodyTests {
    /// Remembers what it was given, and takes it when the test says so.
    final class Sink: HTTPBodySink {
        struct State {
            var parts: [Int] = []
            var open: [EventLoopPromise<Void>] = []
            var trailers: HTTPHeaders?
            var isBroken = false
            var responder: HTTPResponder?
        }

        let state = Mutex(State())
        let loop: any EventLoop

        init(_ loop: any EventLoop) { self.loop = loop }

        func receive(_ part: ByteBuffer) -> EventLoopFuture<Void>? {
            let promise = loop.makePromise(of: Void.self)
            state.withLock { state in
                state.parts.append(part.readableBytes)
                state.open.append(promise)
            }
            return promise.futureResult
        }

        func end(_ trailers: HTTPHeaders) { state.withLock { $0.trailers = trailers } }
        func broke() { state.withLock { $0.isBroken = true } }

        func takeAll() {
            let open = state.withLock { state in
                defer { state.open = [] }
                return state.open
            }
            for promise in open { promise.succeed() }
        }

        var respond: HTTPResponder? { state.withLock { $0.responder } }
        var parts: [Int] { state.withLock { $0.parts } }
        var trailers: HTTPHeaders? { state.withLock { $0.trailers } }
        var isBroken: Bool { state.withLock { $0.isBroken } }
    }

    let channel = EmbeddedChannel()
    let counter = ReadCounter()
    let sink: Sink

    /// - Throws: nothing in practice; handlers are added to a fresh channel.
    init() throws {
        let sink = Sink(channel.eventLoop)
        self.sink = sink
        var configuration = HTTPServerConfiguration()
        configuration.streamHandler = { head in
            guard head.uri == "/stream" else { return nil }
            return { _, responder in
                sink.state.withLock { $0.responder = responder }
                return sink
            }
        }
        let connection = HTTPConnection(configuration: configuration, shutdown: ShutdownFlag()) { request, responder in
            responder.respond(HTTPResponse(.ok, body: request.body))
        }
        try channel.pipeline.syncOperations.addHandler(counter)
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    func head(_ method: HTTPMethod = .POST, _ uri: String = "/stream") throws {
        try channel.writeInbound(
            HTTPServerRequestPart.head(HTTPRequestHead(version: .http1_1, method: method, uri: uri))
        )
    }

    func body(_ count: Int) throws {
        try channel.writeInbound(HTTPServerRequestPart.body(ByteBuffer(repeating: 7, count: count)))
    }

    func end(_ trailers: HTTPHeaders? = nil) throws { try channel.writeInbound(HTTPServerRequestPart.end(trailers)) }

    /// What was answered, as it is sent, with `|` for the end of a line.
    func answered() throws -> String {
        var text = ""
        while case .byteBuffer(let bytes)? = try channel.readOutbound(as: IOData.self) { text += String(buffer: bytes) }
        return text.split(separator: "\r\n", omittingEmptySubsequences: false).joined(separator: "|")
    }

    @Test("its handler runs at its head, and gets each part and the trailers")
    func parts() throws {
        try head()
        #expect(sink.respond != nil)
        try body(10)
        try body(20)
        try end(["X-Trailer": "yes"])
        #expect(sink.parts == [10, 20])
        #expect(sink.trailers?.first(name: "x-trailer") == "yes")
        sink.respond?.respond(HTTPResponse(.accepted))
        #expect(try answered() == "HTTP/1.1 202 Accepted|Content-Length: 0||")
        #expect(!sink.isBroken)
    }

    @Test("the connection stops reading while its sink has enough in hand, and goes on when it has taken some")
    func backPressure() throws {
        try head()
        try body(BodyFlow.window - 1)
        channel.pipeline.read()
        #expect(counter.reads == 1)
        try body(1)
        channel.pipeline.read()
        channel.pipeline.read()
        #expect(counter.reads == 1, "nothing more is read")
        sink.takeAll()
        channel.embeddedEventLoop.run()
        #expect(counter.reads == 2, "the read that was held back")
        channel.pipeline.read()
        #expect(counter.reads == 3)
    }

    @Test("small parts count as the memory that they keep")
    func smallParts() throws {
        try head()
        for _ in 0..<(BodyFlow.window / 4096) { try body(1) }
        channel.pipeline.read()
        #expect(counter.reads == 0)
    }

    @Test("a lost connection is told to the sink, once, and not as an end")
    func lost() throws {
        try head()
        try body(5)
        channel.pipeline.fireChannelInactive()
        #expect(sink.isBroken)
        #expect(sink.trailers == nil)
    }

    @Test("an answer before its end lets the rest be dropped, and the next request be answered")
    func earlyAnswer() throws {
        try head()
        try body(BodyFlow.window)
        channel.pipeline.read()
        sink.respond?.respond(HTTPResponse(.badRequest))
        #expect(counter.reads == 1, "reading goes on")
        try body(100)
        #expect(sink.parts == [BodyFlow.window])
        try end()
        #expect(sink.trailers == nil)
        try head(.GET, "/other")
        try end()
        #expect(
            try answered()
                == "HTTP/1.1 400 Bad Request|Content-Length: 0||HTTP/1.1 200 OK|Content-Length: 0||"
        )
    }

    @Test("an answer in pieces may end with trailers, or be broken off without an end")
    func answers() throws {
        try head()
        try end()
        sink.respond?.begin(.ok, headers: ["Transfer-Encoding": "chunked"])
        _ = sink.respond?.write(ByteBuffer(string: "abc"))
        sink.respond?.end(trailers: ["X": "y"])
        let head = "HTTP/1.1 200 OK|Transfer-Encoding: chunked||"
        #expect(try answered() == head + "3|abc|0|X: y||")
        try self.head()
        try end()
        sink.respond?.begin(.ok, headers: ["Transfer-Encoding": "chunked"])
        sink.respond?.abort()
        #expect(try answered() == head)
        #expect(!channel.isActive)
    }

    @Test("an answer to HEAD has the headers of its body and not the body")
    func headHasNoBody() throws {
        try head(.HEAD, "/other")
        try body(3)
        try end()
        #expect(try answered() == "HTTP/1.1 200 OK|Content-Length: 3||")
        try head(.HEAD)
        try end()
        sink.respond?.begin(.ok, headers: ["Transfer-Encoding": "chunked"])
        _ = sink.respond?.write(ByteBuffer(string: "abc"))
        sink.respond?.end()
        #expect(try answered() == "HTTP/1.1 200 OK|Content-Length: 0||")
    }
}
