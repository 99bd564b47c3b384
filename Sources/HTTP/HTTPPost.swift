// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import NIOPosix

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
        let loop = group.next()
        let answer = loop.makePromise(of: HTTPResponseStatus.self)
        let timer = loop.scheduleTask(in: timeout) { answer.fail(Failure.timedOut(timeout)) }
        answer.futureResult.whenComplete { _ in timer.cancel() }
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: path, headers: headers)
        head.headers.replaceOrAdd(name: "Content-Length", value: String(body.readableBytes))
        head.headers.replaceOrAdd(name: "Connection", value: "close")
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(AnswerStatus(answer))
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

/// Reads one answer and keeps its status.
private final class AnswerStatus: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answer: EventLoopPromise<HTTPResponseStatus>
    private var status: HTTPResponseStatus?
    private var received = 0

    init(_ answer: EventLoopPromise<HTTPResponseStatus>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): status = head.status
        case .body(let part):
            received += part.readableBytes
            if received > HTTPPost.bodyLimit { finish("") }
        case .end: finish("")
        }
    }

    func channelInactive(context: ChannelHandlerContext) { finish("") }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { finish("\(error)") }

    /// A status is an answer, whatever became of the body behind it.
    private func finish(_ why: String) {
        if let status { answer.succeed(status) } else { answer.fail(HTTPPost.Failure.noAnswer(why)) }
    }
}
