// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// What the responder of a request may do, in this order: one whole answer, or a head, pieces and an end.
extension HTTPConnection {
    func respond(_ response: HTTPResponse, to sequence: UInt64) {
        guard sequence == self.sequence, case .answering(let keepAlive) = state, context != nil else { return }
        let persists = keepAlive && !shutdown.isSet
        let mayHaveBody = response.status.mayHaveResponseBody
        let answer = writer.whole(
            response.status,
            response.headers,
            body: mayHaveBody && !answersHead ? response.body : ByteBuffer(),
            length: mayHaveBody ? response.body.readableBytes : nil,
            closes: !persists
        )
        onlyAcknowledged = response.isAcknowledgement
        finish(answer, keepAlive: persists)
    }

    func begin(_ status: HTTPResponseStatus, headers: HTTPHeaders, to sequence: UInt64) {
        guard sequence == self.sequence, case .answering(let keepAlive) = state, let context else { return }
        state = .streaming(keepAlive: keepAlive)
        onlyAcknowledged = false
        if !status.mayHaveResponseBody { answersHead = true }
        var headers = headers
        if answersHead {
            // There will be no chunks, no last one either, and nothing behind it.
            headers.remove(name: "Transfer-Encoding")
            headers.remove(name: "Trailer")
            if status.mayHaveResponseBody { headers.add(name: "Content-Length", value: "0") }
        }
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(writer.begin(status, headers))), promise: nil)
    }

    func write(_ bytes: ByteBuffer, to sequence: UInt64, promise: EventLoopPromise<Void>) {
        guard sequence == self.sequence, case .streaming = state, let context else {
            return promise.fail(ChannelError.ioOnClosedChannel)
        }
        guard !answersHead else { return promise.succeed() }
        put(writer.piece(bytes), context, promise: promise)
        context.flush()
    }

    func end(_ sequence: UInt64, trailers: HTTPHeaders?) {
        // An end without a beginning is a breach that the peer must not wait for.
        guard sequence == self.sequence, case .streaming(let keepAlive) = state else { return abort(sequence) }
        finish([writer.end(trailers)], keepAlive: keepAlive && !shutdown.isSet)
    }

    /// Ends the connection in the middle of an answer: without the last chunk its reader knows that something is missing.
    func abort(_ sequence: UInt64) {
        guard sequence == self.sequence else { return }
        switch state {
        case .answering, .streaming:
            disconnected = nil
            context?.close(promise: nil)
        case .idle, .receiving, .discarding, .draining, .closed: break
        }
    }

    func onDisconnect(_ body: @escaping @Sendable () -> Void, of sequence: UInt64) {
        guard sequence == self.sequence else { return }
        switch state {
        case .answering, .streaming: disconnected = body
        case .closed: body()
        case .idle, .receiving, .discarding, .draining: break
        }
    }

    private func put(_ pieces: [ByteBuffer], _ context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        for piece in pieces.dropLast() { context.write(wrapOutboundOut(.byteBuffer(piece)), promise: nil) }
        // The last one even where it is empty: whoever waits for it waits for all before it.
        context.write(wrapOutboundOut(.byteBuffer(pieces.last ?? ByteBuffer())), promise: promise)
    }

    /// - Parameter rest: what is still to be sent of the answer.
    private func finish(_ rest: [ByteBuffer], keepAlive: Bool) {
        guard let context else { return }
        disconnected = nil
        let isWhole = flow == nil
        flow = nil
        state = !keepAlive ? .closed : isWhole ? .idle : .draining(dropped: 0)
        hasUnsent = true
        // Also without keep-alive: a peer that does not read its answer must not hold the connection for ever.
        expect(within: isWhole ? configuration.idleTimeout : configuration.readTimeout)
        guard keepAlive else {
            let channel = context.channel
            let sent = context.eventLoop.makePromise(of: Void.self)
            sent.futureResult.whenComplete { _ in channel.close(promise: nil) }
            put(rest, context, promise: sent)
            behind.removeAll()
            return sendNow(context)
        }
        put(rest, context, promise: nil)
        if !isReading { sendNow(context) }
        takeBehind()
        readOn()
    }
}
