// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// One connection of the server: collects a request, hands it over, writes the answer.
///
/// Confined to its event loop. Pipelined requests wait in NIO's pipeline handler until the one before is answered.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case idle
        case receiving(HTTPRequestHead, ByteBuffer, limit: Int)
        /// The body is over its limit: the rest is read and dropped, so that the peer gets to read the refusal.
        case discarding(HTTPRequestHead, dropped: Int, limit: Int)
        case answering(keepAlive: Bool)
        case streaming(keepAlive: Bool)
        case closed
    }

    /// How much of an oversized body is read only to be dropped, before the connection is cut instead.
    private static let discardLimit = 64 << 20

    private let configuration: HTTPServerConfiguration
    private let handler: HTTPHandler
    private let shutdown: ShutdownFlag
    private var state = State.idle
    private var context: ChannelHandlerContext?
    private var sequence: UInt64 = 0
    private var deadline: NIODeadline?
    /// Whether the answer may have no body: it would be read as the beginning of the next answer.
    private var isHeadOnly = false
    private var disconnected: (@Sendable () -> Void)?
    /// Whether what was written waits for the end of the read that it answers, to leave in one piece.
    private var isReading = false
    private var hasUnsent = false
    private var onlyAcknowledged = false

    init(configuration: HTTPServerConfiguration, shutdown: ShutdownFlag, handler: @escaping HTTPHandler) {
        self.configuration = configuration
        self.shutdown = shutdown
        self.handler = handler
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        expect(within: configuration.idleTimeout)
        checkDeadline()
    }

    func channelInactive(context: ChannelHandlerContext) {
        let notify = disconnected
        disconnected = nil
        state = .closed
        self.context = nil
        notify?()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isReading = true
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .idle): receive(head, context)
        case (.body(let part), .receiving(let head, var body, let limit)):
            guard body.readableBytes + part.readableBytes <= limit else {
                state = .discarding(head, dropped: body.readableBytes + part.readableBytes, limit: limit)
                return
            }
            state = .closed  // lets `body` be appended to in place
            var part = part
            if body.readableBytes == 0 { swap(&body, &part) } else { body.writeBuffer(&part) }
            state = .receiving(head, body, limit: limit)
        case (.body(let part), .discarding(let head, let dropped, let limit)):
            state = .discarding(head, dropped: dropped + part.readableBytes, limit: limit)
            if dropped > Self.discardLimit { refuse(head, limit) }
        case (.end, .receiving(let head, let body, _)): complete(head, body, context)
        case (.end, .discarding(let head, _, let limit)): refuse(head, limit)
        default: break
        }
    }

    /// Answers to what was read leave now, in one write. An acknowledgement does not leave by itself while the same peer
    /// waits for the answer to a request behind it: each write wakes the peer, and it has nothing to do yet.
    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        if hasUnsent, case .answering = state, onlyAcknowledged {
            return context.fireChannelReadComplete()
        }
        sendNow(context)
        context.fireChannelReadComplete()
    }

    private func sendNow(_ context: ChannelHandlerContext) {
        guard hasUnsent else { return }
        hasUnsent = false
        context.flush()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func receive(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let limit = configuration.bodyLimit(head)
        let announced = head.headers.first(name: "Content-Length").flatMap { Int($0) } ?? 0
        expect(within: configuration.readTimeout)
        guard announced <= limit else {
            state = .discarding(head, dropped: 0, limit: limit)
            if announced > limit + Self.discardLimit || expectsContinue(head) { refuse(head, limit) }
            return
        }
        state = .receiving(head, ByteBuffer(), limit: limit)
        if expectsContinue(head) {
            context.writeAndFlush(wrapOutboundOut(.head(.init(version: head.version, status: .continue))), promise: nil)
        }
    }

    private func expectsContinue(_ head: HTTPRequestHead) -> Bool {
        head.headers.first(name: "Expect")?.lowercased() == "100-continue"
    }

    private func complete(_ head: HTTPRequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        deadline = nil
        sequence &+= 1
        isHeadOnly = head.method == .HEAD
        state = .answering(keepAlive: head.isKeepAlive)
        let request = HTTPRequest(method: head.method, uri: head.uri, headers: head.headers, body: body)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        handler(request, HTTPResponder(connection: bound, eventLoop: context.eventLoop, sequence: sequence))
    }

    private func refuse(_ head: HTTPRequestHead, _ limit: Int) {
        sequence &+= 1
        isHeadOnly = head.method == .HEAD
        state = .answering(keepAlive: false)
        respond(configuration.tooLarge(head, limit), to: sequence)
    }

    // MARK: Answers

    func respond(_ response: HTTPResponse, to sequence: UInt64) {
        guard sequence == self.sequence, case .answering(let keepAlive) = state, let context else { return }
        let persists = keepAlive && !shutdown.isSet
        var headers = response.headers
        if response.status != .noContent {
            headers.replaceOrAdd(name: "Content-Length", value: String(response.body.readableBytes))
        }
        if !persists { headers.replaceOrAdd(name: "Connection", value: "close") }
        let head = HTTPResponseHead(version: .http1_1, status: response.status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if response.body.readableBytes > 0, !isHeadOnly {
            context.write(wrapOutboundOut(.body(.byteBuffer(response.body))), promise: nil)
        }
        onlyAcknowledged = response.isAcknowledgement
        finish(keepAlive: persists)
    }

    func begin(_ status: HTTPResponseStatus, headers: HTTPHeaders, to sequence: UInt64) {
        guard sequence == self.sequence, case .answering(let keepAlive) = state, let context else { return }
        state = .streaming(keepAlive: keepAlive)
        let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
        context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
    }

    func write(_ bytes: ByteBuffer, to sequence: UInt64, promise: EventLoopPromise<Void>) {
        guard sequence == self.sequence, case .streaming = state, let context else {
            return promise.fail(ChannelError.ioOnClosedChannel)
        }
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(bytes))), promise: promise)
    }

    func end(_ sequence: UInt64) {
        guard sequence == self.sequence, case .streaming(let keepAlive) = state else { return }
        finish(keepAlive: keepAlive && !shutdown.isSet)
    }

    func onDisconnect(_ body: @escaping @Sendable () -> Void, of sequence: UInt64) {
        guard sequence == self.sequence else { return }
        switch state {
        case .answering, .streaming: disconnected = body
        case .closed: body()
        case .idle, .receiving, .discarding: break
        }
    }

    private func finish(keepAlive: Bool) {
        guard let context else { return }
        disconnected = nil
        state = keepAlive ? .idle : .closed
        hasUnsent = true
        // Also without keep-alive: a peer that does not read its answer must not hold the connection for ever.
        expect(within: configuration.idleTimeout)
        guard keepAlive else {
            let channel = context.channel
            context.write(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
            return sendNow(context)
        }
        context.write(wrapOutboundOut(.end(nil)), promise: nil)
        if !isReading { sendNow(context) }
    }

    /// Closes a connection that waits for its next request; one that is being answered closes after the answer.
    func closeIfIdle() {
        if case .idle = state { context?.close(promise: nil) }
    }

    // MARK: Deadlines

    private func expect(within limit: TimeAmount) { deadline = .now() + limit }

    /// One timer a connection, re-armed by looking at the deadline: requests only move a number.
    private func checkDeadline() {
        guard let context else { return }
        if let deadline, deadline <= .now() { return context.close(promise: nil) }
        let next = deadline ?? .now() + .seconds(5)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(deadline: max(next, .now() + .milliseconds(50))) { bound.value.checkDeadline() }
    }
}
