// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// One POST on a connection of its own: small, bounded, and without redirects.
package enum HTTPPost {
    package enum Failure: Error, Sendable, CustomStringConvertible {
        case unreachable(String)
        case timedOut(TimeAmount)
        /// The connection ended before there was an answer.
        case noAnswer(String)

        package var description: String {
            switch self {
            case .unreachable(let why): "it cannot be reached: \(why)"
            case .timedOut(let time): "it did not answer within \(time.nanoseconds / 1_000_000) ms"
            case .noAnswer(let why): "it closed the connection without an answer\(why.isEmpty ? "" : ": \(why)")"
            }
        }
    }

    package struct Answer: Sendable {
        package var head: HTTPResponseHead
        /// Its beginning, where it is longer than is read.
        package var body: ByteBuffer
    }

    /// More of an answer's body is not read.
    fileprivate static let bodyLimit = 64 << 10

    /// Sends `body`; the future is the answer's status.
    ///
    /// - Parameter timeout: for everything, from the name's look-up to the answer's end.
    package static func send(
        to host: String,
        port: Int,
        path: String,
        headers: HTTPHeaders,
        body: ByteBuffer,
        timeout: TimeAmount,
        on group: any EventLoopGroup
    ) -> EventLoopFuture<HTTPResponseStatus> {
        exchange(to: host, port: port, path: path, headers: headers, body: body, timeout: timeout, on: group)
            .map(\.head.status)
    }

    /// Sends `body`; the future is the answer.
    ///
    /// - Parameter tls: what the connection is secured with, for `host`; `nil` is plain HTTP.
    package static func exchange(
        to host: String,
        port: Int,
        path: String,
        headers: HTTPHeaders,
        body: ByteBuffer,
        timeout: TimeAmount,
        tls: NIOSSLContext? = nil,
        on group: any EventLoopGroup
    ) -> EventLoopFuture<Answer> {
        let loop = group.next()
        let answer = loop.makePromise(of: Answer.self)
        let timer = loop.scheduleTask(in: timeout) { answer.fail(Failure.timedOut(timeout)) }
        answer.futureResult.whenComplete { _ in timer.cancel() }
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: path, headers: headers)
        head.headers.replaceOrAdd(name: "Content-Length", value: String(body.readableBytes))
        head.headers.replaceOrAdd(name: "Connection", value: "close")
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        // An address is no name for SNI; its certificate is checked all the same.
                        let name = (try? SocketAddress(ipAddress: host, port: port)) == nil ? host : nil
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: name)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(AnswerReader(answer))
                }
            }
            .connect(host: host, port: port)
            .whenComplete { [head] result in
                switch result {
                case .success(let channel):
                    answer.futureResult.whenComplete { _ in channel.close(promise: nil) }
                    channel.write(HTTPClientRequestPart.head(head), promise: nil)
                    channel.write(HTTPClientRequestPart.body(.byteBuffer(body)), promise: nil)
                    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
                case .failure(let error): answer.fail(Failure.unreachable("\(error)"))
                }
            }
        return answer.futureResult
    }
}

/// Reads one answer.
private final class AnswerReader: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answer: EventLoopPromise<HTTPPost.Answer>
    private var head: HTTPResponseHead?
    private var body = ByteBuffer()

    init(_ answer: EventLoopPromise<HTTPPost.Answer>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body(var part):
            body.writeBuffer(&part)
            if body.readableBytes > HTTPPost.bodyLimit { finish("") }
        case .end: finish("")
        }
    }

    func channelInactive(context: ChannelHandlerContext) { finish("") }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { finish("\(error)") }

    /// A status is an answer, whatever became of the body behind it.
    private func finish(_ why: String) {
        if let head {
            answer.succeed(HTTPPost.Answer(head: head, body: body))
        } else {
            answer.fail(HTTPPost.Failure.noAnswer(why))
        }
    }
}
