// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing

@testable import HTTP

@Suite("What bodies may take together")
struct BodyBudgetTests {
    private func connection(_ configuration: HTTPServerConfiguration) throws -> EmbeddedChannel {
        let channel = EmbeddedChannel()
        let connection = HTTPConnection(configuration: configuration, shutdown: ShutdownFlag()) { request, responder in
            responder.respond(HTTPResponse(.ok, text: "\(request.body.readableBytes)"))
        }
        try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(HTTPRequestDecoder()))
        try channel.pipeline.syncOperations.addHandler(connection)
        return channel
    }

    private func send(_ count: Int, of announced: Int, to channel: EmbeddedChannel) throws {
        let head = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: \(announced)\r\n\r\n"
        try channel.writeInbound(ByteBuffer(string: head + String(repeating: "x", count: count)))
    }

    private func status(_ channel: EmbeddedChannel) throws -> String? {
        var text = ""
        while case .byteBuffer(let bytes)? = try channel.readOutbound(as: IOData.self) { text += String(buffer: bytes) }
        return text.isEmpty ? nil : String(text.dropFirst("HTTP/1.1 ".count).prefix(3))
    }

    @Test("what others have not ended to send counts, until it is whole, refused, or its connection ends")
    func counted() throws {
        var configuration = HTTPServerConfiguration()
        configuration.bodyBudget = BodyBudget { 10_000 }
        let (first, second) = (try connection(configuration), try connection(configuration))
        try send(6000, of: 8000, to: first)
        try send(6000, of: 6000, to: second)
        #expect(try status(second) == "413")
        // What was refused is given back, and so is what is whole.
        let third = try connection(configuration)
        for _ in 0..<3 {
            try send(4000, of: 4000, to: third)
            #expect(try status(third) == "200")
        }
        _ = try first.finish(acceptAlreadyClosed: true)
        let fourth = try connection(configuration)
        try send(9000, of: 9000, to: fourth)
        #expect(try status(fourth) == "200")
    }

    @Test("a connection that is to end sends what was answered first")
    func sentFirst() throws {
        let shutdown = ShutdownFlag()
        let channel = EmbeddedChannel()
        let connection = HTTPConnection(configuration: HTTPServerConfiguration(), shutdown: shutdown) { _, responder in
            responder.respond(HTTPResponse(.ok, text: "answer"))
        }
        try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(HTTPRequestDecoder()))
        try channel.pipeline.syncOperations.addHandler(connection)
        #expect(!connection.isUnfinished)
        try channel.writeInbound(ByteBuffer(string: "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12"))
        #expect(connection.isUnfinished)
        connection.closeIfIdle()
        try channel.writeInbound(ByteBuffer(string: "345"))
        #expect(try status(channel) == "200" && !connection.isUnfinished)
        connection.closeIfIdle()
        #expect(!channel.isActive)
    }
}
