// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// One connection of the server: collects a request, or passes its body on as it arrives, and writes the answer.
///
/// Confined to its event loop. What a peer sends behind a request that is being answered waits: as much as one turn of the
/// loop reads (`readsAtOnce`), then nothing more is read from it.
final class HTTPConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = Never
    typealias OutboundOut = IOData

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
    /// Parts of requests behind the one that is being answered.
    var behind: CircularBuffer<HTTPServerRequestPart> = []
    /// Whether what follows those is no HTTP: told when all before it is answered.
    private var isBrokenBehind = false
    private var isTakingBehind = false
    /// Of the budget of bodies.
    private var held = 0
    var writer = AnswerWriter(ByteBufferAllocator())
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
        writer = AnswerWriter(context.channel.allocator)
        expect(within: configuration.idleTimeout)
    }

    func channelInactive(context: ChannelHandlerContext) {
        let (notify, sink) = (disconnected, flow?.sink)
        (disconnected, flow) = (nil, nil)
        giveBack()
        state = .closed
        behind.removeAll()
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
        let part = unwrapInboundIn(data)
        if isAnswering || !behind.isEmpty { return behind.append(part) }
        take(part, context)
    }

    /// Whether a request has been received to its end and its answer has not ended.
    private var isAnswering: Bool {
        switch state {
        case .answering, .streaming: flow == nil
        case .idle, .receiving, .discarding, .draining, .closed: false
        }
    }

    /// Goes on with what was sent behind a request that has been answered now. An answer to it that comes at once comes
    /// back to here: the loop goes on then, so that many small requests do not nest.
    func takeBehind() {
        guard !isTakingBehind, !behind.isEmpty || isBrokenBehind else { return }
        isTakingBehind = true
        while !isAnswering, let context, let part = behind.popFirst() { take(part, context) }
        isTakingBehind = false
        if !isReading { handOn() }
        if behind.isEmpty, !isAnswering, isBrokenBehind, let context { refuseBroken(context) }
    }

    private func take(_ part: HTTPServerRequestPart, _ context: ChannelHandlerContext) {
        switch (part, state) {
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
            guard body.readableBytes + part.readableBytes <= limit, take(part.readableBytes) else {
                giveBack()
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
        guard error is HTTPParserError else { return context.close(promise: nil) }
        if isAnswering { isBrokenBehind = true } else { refuseBroken(context) }
    }

    /// What was sent is no HTTP: said, unless an answer has begun, and the connection ends.
    private func refuseBroken(_ context: ChannelHandlerContext) {
        switch state {
        case .closed: return  // as soon as its last answer is sent
        case .streaming: return context.close(promise: nil)
        case .idle, .receiving, .discarding, .answering, .draining: break
        }
        for piece in writer.whole(.badRequest, [:], body: ByteBuffer(), length: 0, closes: true) {
            context.write(wrapOutboundOut(.byteBuffer(piece)), promise: nil)
        }
        context.flush()
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
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(writer.goOn())), promise: nil)
    }

    private func expectsContinue(_ head: HTTPRequestHead) -> Bool {
        head.headers.first(name: "Expect")?.lowercased() == "100-continue"
    }

    private func complete(_ head: HTTPRequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        deadline = nil
        giveBack()
        sequence &+= 1
        state = .answering(keepAlive: head.isKeepAlive)
        var request = HTTPRequest(method: head.method, uri: head.uri, headers: head.headers, body: body)
        request.isSecure = configuration.tls != nil
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        handler(request, HTTPResponder(connection: bound, eventLoop: context.eventLoop, sequence: sequence))
    }

    // MARK: The budget of bodies

    private func take(_ count: Int) -> Bool {
        guard let budget = configuration.bodyBudget else { return true }
        guard budget.take(count) else { return false }
        held += count
        return true
    }

    /// What is received is the handler's from here on, or was dropped.
    private func giveBack() {
        configuration.bodyBudget?.giveBack(held)
        held = 0
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

    /// The channel wants to read: not while a sink has enough in hand, nor while requests wait behind one that is being
    /// answered. While nothing waits it may: to stop and go on costs two system calls, and most peers send nothing then.
    func read(context: ChannelHandlerContext) {
        if mayRead { context.read() } else { readIsHeld = true }
    }

    private var mayRead: Bool { flow?.isFull != true && behind.isEmpty && !isBrokenBehind }

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
        guard readIsHeld, mayRead else { return }
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

    /// Closes a connection that waits for its next request, when its last answer is sent; one that is being answered
    /// closes after the answer.
    func closeIfIdle() {
        guard case .idle = state, let context else { return }
        state = .closed
        let channel = context.channel
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.whenComplete { _ in channel.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(ByteBuffer())), promise: sent)
    }

    /// Whether somebody waits for the rest of a request or of an answer that has an end.
    var isUnfinished: Bool {
        switch state {
        case .idle, .streaming: false
        case .closed: context != nil
        case .receiving, .discarding, .answering, .draining: true
        }
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
