// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing

@testable import HTTP

@Suite("The deadlines of a connection")
struct ConnectionTimerTests {
    private let channel = EmbeddedChannel()

    private func connection(idle: TimeAmount, read: TimeAmount) throws -> HTTPConnection {
        var configuration = HTTPServerConfiguration()
        configuration.idleTimeout = idle
        configuration.readTimeout = read
        let connection = HTTPConnection(configuration: configuration, shutdown: ShutdownFlag()) { _, _ in }
        try channel.pipeline.syncOperations.addHandler(connection)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        return connection
    }

    @Test("a closed connection is let go of, however far its deadline is")
    func forgotten() throws {
        weak var seen: HTTPConnection?
        seen = try connection(idle: .hours(24 * 365), read: .minutes(15))
        #expect(seen != nil)
        try channel.close().wait()
        channel.embeddedEventLoop.run()
        #expect(seen == nil)
    }

    @Test("a request that does not end is cut, though the connection might have been idle for a year")
    func nearer() throws {
        _ = try connection(idle: .hours(24 * 365), read: .milliseconds(1))
        try channel.writeInbound(
            HTTPServerRequestPart.head(HTTPRequestHead(version: .http1_1, method: .POST, uri: "/"))
        )
        #expect(channel.isActive)
        // The deadline is by the clock, the test's loop has one of its own.
        while NIODeadline.now() < start + .milliseconds(20) {}
        channel.embeddedEventLoop.advanceTime(to: .now())
        #expect(!channel.isActive)
    }

    private let start = NIODeadline.now()
}
