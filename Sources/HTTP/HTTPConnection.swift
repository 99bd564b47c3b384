// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// One connection of the server: collects a request, or passes its body on as it arrives, and writes the answer.
///
/// Confined to its event loop. Pipelined requests wait in NIO's pipeline handler until the one before is answered.
final class HTTPConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    enum State {
        case idle
        case receiving(HTTPRequestHead, ByteBuffer, limit: Int)
        /// The body is over its limit: the rest is read and dropped, so that the peer gets to read the refusal.
        case discarding(HTTPRequestHead, dropped: Int, limit: Int)
        case answering(keepAlive: Bool)
        case streaming(keepAlive: Bool)
        /// Answered before its body had ended: the rest is read and dropped, so that the next request can be found.
        case draining(dropped: Int)
        case closed
    }

    /// How much of an oversized body is read only to be dropped, before the connection is cut instead.
    private static let discardLimit = 64 << 20

    let configuration: HTTPServerConfiguration
    let shutdown: ShutdownFlag
    var state = State.idle
    var context: ChannelHandlerContext?
    /// Which request of this connection is being answered.
    var sequence: UInt64 = 0
    /// Whether the answer must not have a body, whatever its headers say.
    var answersHead = false
    var disconnected: (@Sendable () -> Void)?
    /// The body that is passed on while its request is answered, until it has ended.
    var flow: BodyFlow?
    /// Whether what was written waits for the end of the read that it answers, to leave in one piece.
    var isReading = false
    var hasUnsent = false
    var onlyAcknowledged = false
    private var readIsHeld = false
    private let handler: HTTPHandler
    private var deadline: NIODeadline?
    private var timer: Scheduled<Void>?
    private var armedFor = NIODeadline.distantFuture

    init(configuration: HTTPServerConfiguration, shutdown: ShutdownFlag, handler: @escaping HTTPHandler) {
        self.configuration = configuration
        self.shutdown = shutdown
        self.handler = handler
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        expect(within: configuration.idleTimeout)
    }

    func channelInactive(context: ChannelHandlerContext) {
        let (notify, sink) = (disconnected, flow?.sink)
        (disconnected, flow) = (nil, nil)
        state = .closed
        self.context = nil
        // It holds this connection, and with it all that serves it, until its time: that may be a year.
        timer?.cancel()
        timer = nil
        sink?.broke()
        notify?()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isReading = true
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .idle): receive(head, context)
        case (.body(let part), .answering), (.body(let part), .streaming): flow?.gather(part)
        case (.end(let trailers), .answering), (.end(let trailers), .streaming): endFlow(trailers)
        case (.body(let part), .draining(let dropped)):
            state = .draining(dropped: dropped + part.readableBytes)
            if dropped > Self.discardLimit { context.close(promise: nil) }
        case (.end, .draining):
            state = .idle
            expect(within: configuration.idleTimeout)
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
        handOn()
        if hasUnsent, case .answering = state, flow == nil, onlyAcknowledged {
            return context.fireChannelReadComplete()
        }
        sendNow(context)
        context.fireChannelReadComplete()
    }

    func sendNow(_ context: ChannelHandlerContext) {
        guard hasUnsent else { return }
        hasUnsent = false
        context.flush()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func receive(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        answersHead = head.method == .HEAD
        if let handler = configuration.streamHandler(head) { return passOn(head, to: handler, context) }
        let limit = configuration.bodyLimit(head)
        let announced = head.headers.first(name: "Content-Length").flatMap { Int($0) } ?? 0
        expect(within: configuration.readTimeout)
        guard announced <= limit else {
            state = .discarding(head, dropped: 0, limit: limit)
            if announced > limit + Self.discardLimit || expectsContinue(head) { refuse(head, limit) }
            return
        }
        state = .receiving(head, ByteBuffer(), limit: limit)
        goOn(head, context)
    }

    /// Tells a peer that asked first to send its body.
    private func goOn(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        guard expectsContinue(head) else { return }
        context.writeAndFlush(wrapOutboundOut(.head(.init(version: head.version, status: .continue))), promise: nil)
    }

    private func expectsContinue(_ head: HTTPRequestHead) -> Bool {
        head.headers.first(name: "Expect")?.lowercased() == "100-continue"
    }

    private func complete(_ head: HTTPRequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        deadline = nil
        sequence &+= 1
        state = .answering(keepAlive: head.isKeepAlive)
        var request = HTTPRequest(method: head.method, uri: head.uri, headers: head.headers, body: body)
        request.isSecure = configuration.tls != nil
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        handler(request, HTTPResponder(connection: bound, eventLoop: context.eventLoop, sequence: sequence))
    }

    private func refuse(_ head: HTTPRequestHead, _ limit: Int) {
        sequence &+= 1
        state = .answering(keepAlive: false)
        respond(configuration.tooLarge(head, limit), to: sequence)
    }

    // MARK: Bodies that are passed on

    /// Such a body may take as long as its answer: whoever answers has a deadline of its own.
    private func passOn(
        _ head: HTTPRequestHead,
        to handler: HTTPStreamHandler,
        _ context: ChannelHandlerContext
    ) {
        deadline = nil
        sequence &+= 1
        state = .answering(keepAlive: head.isKeepAlive)
        flow = BodyFlow()
        let request = HTTPRequest(method: head.method, uri: head.uri, headers: head.headers)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let sink = handler(request, HTTPResponder(connection: bound, eventLoop: context.eventLoop, sequence: sequence))
        guard flow != nil else { return }  // answered already
        flow?.sink = sink
        goOn(head, context)
    }

    /// The channel wants to read: not while a sink has enough in hand.
    func read(context: ChannelHandlerContext) {
        if flow?.isFull == true { readIsHeld = true } else { context.read() }
    }

    private func handOn() {
        guard let context, let (sink, part) = flow?.next() else { return }
        let (cost, sequence) = (BodyFlow.cost(part), sequence)
        guard let taken = sink.receive(part) else {
            flow?.taken(cost)
            return
        }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        taken.hop(to: context.eventLoop).whenComplete { _ in bound.value.taken(cost, of: sequence) }
    }

    private func taken(_ cost: Int, of sequence: UInt64) {
        guard sequence == self.sequence else { return }
        flow?.taken(cost)
        readOn()
    }

    /// Catches up on a read that was held back, when nothing holds it any more.
    func readOn() {
        guard readIsHeld, flow?.isFull != true else { return }
        readIsHeld = false
        context?.read()
    }

    private func endFlow(_ trailers: HTTPHeaders?) {
        handOn()
        let sink = flow?.sink
        flow = nil
        readOn()
        sink?.end(trailers ?? [:])
    }

    /// Closes a connection that waits for its next request; one that is being answered closes after the answer.
    func closeIfIdle() {
        if case .idle = state { context?.close(promise: nil) }
    }

    // MARK: Deadlines

    func expect(within limit: TimeAmount) {
        let next = NIODeadline.now() + limit
        deadline = next
        if next < armedFor { arm(next) }
    }

    /// One timer a connection, armed for the nearest deadline it has had: requests mostly only move a number.
    private func arm(_ moment: NIODeadline) {
        guard let context else { return }
        timer?.cancel()
        armedFor = moment
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(deadline: moment) { bound.value.checkDeadline() }
    }

    private func checkDeadline() {
        armedFor = .distantFuture
        // While nothing is waited for there is no timer: the next `expect` arms it.
        guard let context, let deadline else { return }
        guard deadline > .now() else { return context.close(promise: nil) }
        arm(deadline)
    }
}
