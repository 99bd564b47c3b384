// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import NIOPosix
import Testing

@testable import HTTP

@Suite("Posting")
struct HTTPPostTests {
    /// Answers as the path says.
    private func withServer(_ body: (Int, any EventLoopGroup) async throws -> Void) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let server =
            try await HTTPServer.start(
                on: .tcp(host: "127.0.0.1", port: 0),
                group: group,
                configuration: HTTPServerConfiguration()
            ) { request, responder in
                switch request.path {
                case "/silent": break
                case "/large": responder.respond(HTTPResponse(.ok, text: String(repeating: "x", count: 1 << 20)))
                case "/moved": responder.respond(HTTPResponse(.found, headers: ["Location": "/ok"]))
                default:
                    let isWhole =
                        request.method == .POST && String(buffer: request.body) == "{}"
                        && request.headers.first(name: "X-Id") == "1" && request.query == "a=b"
                    responder.respond(HTTPResponse(isWhole ? .accepted : .badRequest))
                }
            }
            .get()
        let port = try #require(server.localAddress?.port)
        try await body(port, group)
        server.close()
        try await group.shutdownGracefully()
    }

    private func post(
        _ path: String,
        _ port: Int,
        _ group: any EventLoopGroup,
        timeout: TimeAmount = .seconds(30)
    ) async throws -> HTTPResponseStatus {
        try await HTTPPost.send(
            to: "127.0.0.1",
            port: port,
            path: path,
            headers: ["Host": "x", "X-Id": "1"],
            body: ByteBuffer(string: "{}"),
            timeout: timeout,
            on: group
        )
        .get()
    }

    @Test("the status is told, however long the answer; redirects are answers")
    func statuses() async throws {
        try await withServer { port, group in
            let cases: [(String, HTTPResponseStatus)] = [
                ("/ok?a=b", .accepted), ("/ok", .badRequest), ("/large", .ok), ("/moved", .found),
            ]
            for (path, expected) in cases {
                let status = try await post(path, port, group)
                #expect(status == expected, "\(path)")
            }
        }
    }

    @Test("who does not answer in time, or is not there, is an error")
    func failures() async throws {
        try await withServer { port, group in
            let late = await #expect(throws: HTTPPost.Failure.self) {
                try await post("/silent", port, group, timeout: .milliseconds(100))
            }
            #expect(late?.description == "it did not answer within 100 ms")
            let away = await #expect(throws: HTTPPost.Failure.self) { try await post("/ok", 1, group) }
            #expect(away?.description.hasPrefix("it cannot be reached") == true)
        }
    }
}
