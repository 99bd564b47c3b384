// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Carries records to one subscriber: batch after batch, one at a time, over one connection.
///
/// Nothing waits for it. A listener that is not there yet is tried again for a while; one that does not answer loses the
/// batch, which is counted.
final class TelemetrySubscriber: Sendable {
    /// Where it listens, inside the sandbox.
    enum Destination: Sendable, Equatable {
        /// A `POST` of a JSON array.
        case http(port: UInt16, path: String, authority: String)
        /// One JSON document a line.
        case tcp(port: UInt16)

        var port: UInt16 {
            switch self {
            case .http(let port, _, _), .tcp(let port): port
            }
        }
    }

    /// How long an answer may take that the sandbox is awake for.
    static let patience = TimeAmount.seconds(5)
    /// How often a batch is tried whose receiver cannot be reached, with longer and longer pauses: 3 s in all.
    private static let attempts = 6

    /// Only touched on the loop, but for what `append` does.
    private struct State {
        var buffer: TelemetryBuffer
        var hasTimer = false
        var isSending = false
        var isClosed = false
        var channel: (any Channel)?
        var waiting: [EventLoopPromise<Void>] = []
    }

    private struct Batch {
        var body: ByteBuffer
        var records: [ByteBuffer]
        var dropped: TelemetryBuffer.Dropped?
        var attempts = 0
    }

    let types: Set<TelemetryType>
    private let timeout: TimeAmount
    private let destination: Destination
    private let loop: any EventLoop
    private let connect: SandboxConnector
    private let isAsleep: @Sendable () -> Bool
    private let now: @Sendable () -> String
    private let state: Mutex<State>

    init(
        types: Set<TelemetryType>,
        limits: TelemetryBuffer.Limits,
        destination: Destination,
        loop: any EventLoop,
        connect: @escaping SandboxConnector,
        isAsleep: @escaping @Sendable () -> Bool,
        now: @escaping @Sendable () -> String
    ) {
        self.types = types
        timeout = .milliseconds(Int64(limits.timeoutMs))
        self.destination = destination
        self.loop = loop
        self.connect = connect
        self.isAsleep = isAsleep
        self.now = now
        state = Mutex(State(buffer: TelemetryBuffer(limits)))
    }

    /// From any thread.
    func append(_ record: ByteBuffer) {
        let (isFull, startsTimer) = state.withLock { state -> (Bool, Bool) in
            guard !state.isClosed else { return (false, false) }
            state.buffer.append(record)
            let isFull = state.buffer.isFull && !state.isSending
            let startsTimer = !state.hasTimer && !state.isSending
            if startsTimer { state.hasTimer = true }
            return (isFull, startsTimer)
        }
        if startsTimer {
            loop.execute { [self] in
                loop.scheduleTask(in: timeout) { [self] in
                    state.withLock { $0.hasTimer = false }
                    pump()
                }
            }
        }
        if isFull { loop.execute { [self] in pump() } }
    }

    /// Sends what there is now; completes when nothing is left or it cannot be sent.
    func flush() -> EventLoopFuture<Void> {
        let promise = loop.makePromise(of: Void.self)
        let isClosed = state.withLock { state in
            if !state.isClosed { state.waiting.append(promise) }
            return state.isClosed
        }
        if isClosed { promise.succeed() } else { loop.execute { [self] in pump() } }
        return promise.futureResult
    }

    func close() {
        let (channel, waiting) = state.withLock { state in
            defer { (state.isClosed, state.channel, state.waiting) = (true, nil, []) }
            return (state.channel, state.waiting)
        }
        channel?.close(promise: nil)
        for promise in waiting { promise.succeed() }
    }

    // MARK: On the loop

    /// Sends the next batch, unless one is under way. A frozen sandbox is left alone: its next invocation brings
    /// records, and with them the next look.
    private func pump() {
        guard !isAsleep() else { return }
        let (batch, waiting) = state.withLock { state -> (Batch?, [EventLoopPromise<Void>]) in
            guard !state.isClosed, !state.isSending else { return (nil, []) }
            guard !state.buffer.isEmpty else {
                defer { state.waiting = [] }
                return (nil, state.waiting)
            }
            state.isSending = true
            return (makeBatch(from: &state.buffer), [])
        }
        for promise in waiting { promise.succeed() }
        if let batch { send(batch) }
    }

    private func makeBatch(from buffer: inout TelemetryBuffer) -> Batch {
        let (taken, dropped) = buffer.take()
        var records = taken
        if let dropped, types.contains(.platform) {
            let note = PlatformRecord.LogsDropped(droppedRecords: dropped.records, droppedBytes: dropped.bytes)
            records.insert(PlatformRecord.encode("platform.logsDropped", at: now(), note), at: 0)
        }
        var body = ByteBuffer()
        let isArray = if case .http = destination { true } else { false }
        if isArray { body.writeString("[") }
        for (index, record) in records.enumerated() {
            if isArray, index > 0 { body.writeString(",") }
            body.writeImmutableBuffer(record)
            if !isArray { body.writeString("\n") }
        }
        if isArray { body.writeString("]") }
        return Batch(body: body, records: taken, dropped: dropped)
    }

    private func send(_ batch: Batch) {
        if let channel = state.withLock({ $0.channel }), channel.isActive { return write(batch, to: channel) }
        connect(destination.port) { [self] result in
            loop.execute { [self] in
                switch result {
                case .success(let socket): adopt(socket, batch)
                case .failure: retry(batch)
                }
            }
        }
    }

    private func adopt(_ socket: CInt, _ batch: Batch) {
        let destination = destination
        ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard case .http = destination else { return }
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(Acknowledgements())
                }
            }
            .withConnectedSocket(socket)
            .whenComplete { [self] result in
                guard case .success(let channel) = result else { return retry(batch) }
                let isWanted = state.withLock { state in
                    if !state.isClosed { state.channel = channel }
                    return !state.isClosed
                }
                if isWanted { write(batch, to: channel) } else { channel.close(promise: nil) }
            }
    }

    private func write(_ batch: Batch, to channel: any Channel) {
        let answered = channel.eventLoop.makePromise(of: Void.self)
        watch(answered, channel)
        answered.futureResult.whenComplete { [self] result in
            switch result {
            case .success: finish()
            case .failure(let error):
                channel.close(promise: nil)
                // A connection that was kept may have ended since it was last used: another one is tried.
                if error is Acknowledgements.Gone { retry(batch) } else { lose(batch) }
            }
        }
        switch destination {
        case .tcp:
            // Kept by the kernel counts as taken: there is no answer.
            channel.writeAndFlush(batch.body)
                .whenComplete { result in
                    switch result {
                    case .success: answered.succeed()
                    case .failure: answered.fail(Acknowledgements.Gone())
                    }
                }
        case .http(_, let path, let authority):
            var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: path)
            head.headers = [
                "Host": authority, "Content-Type": "application/json", "Content-Length": "\(batch.body.readableBytes)",
            ]
            channel.pipeline.fireUserInboundEventTriggered(answered)
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            channel.write(HTTPClientRequestPart.body(.byteBuffer(batch.body)), promise: nil)
            channel.writeAndFlush(HTTPClientRequestPart.end(nil))
                .whenFailure { _ in answered.fail(Acknowledgements.Gone()) }
        }
    }

    /// Gives up on an answer that does not come while the sandbox could give it.
    private func watch(_ answered: EventLoopPromise<Void>, _ channel: any Channel) {
        let timer = loop.scheduleRepeatedTask(initialDelay: Self.patience, delay: Self.patience) { [self] _ in
            if !isAsleep() { answered.fail(Acknowledgements.Refused()) }
        }
        answered.futureResult.whenComplete { _ in timer.cancel() }
    }

    private func retry(_ batch: Batch) {
        var batch = batch
        batch.attempts += 1
        let (isClosed, isEnding) = state.withLock { ($0.isClosed, !$0.waiting.isEmpty) }
        // Who is told of the end has to listen by now.
        guard !isClosed, !isEnding || batch.attempts < 2, batch.attempts < Self.attempts else { return lose(batch) }
        loop.scheduleTask(in: .milliseconds(50 << Int64(batch.attempts))) { [self, batch] in send(batch) }
    }

    private func lose(_ batch: Batch) {
        let waiting = state.withLock { state in
            state.buffer.drop(batch.records.count, bytes: batch.records.reduce(0) { $0 + $1.readableBytes })
            if let dropped = batch.dropped { state.buffer.drop(dropped.records, bytes: dropped.bytes) }
            defer { state.waiting = [] }
            return state.waiting
        }
        for promise in waiting { promise.succeed() }
        finish()
    }

    /// A batch is done with: the next one at once where it is due, else after its time.
    private func finish() {
        let (isDue, startsTimer) = state.withLock { state -> (Bool, Bool) in
            state.isSending = false
            let isDue = state.buffer.isFull || !state.waiting.isEmpty
            let startsTimer = !isDue && !state.buffer.isEmpty && !state.hasTimer && !state.isClosed
            if startsTimer { state.hasTimer = true }
            return (isDue, startsTimer)
        }
        if isDue { pump() }
        if startsTimer {
            loop.scheduleTask(in: timeout) { [self] in
                state.withLock { $0.hasTimer = false }
                pump()
            }
        }
    }
}

/// Reads answers, one for each promise that it is given as a user event.
private final class Acknowledgements: ChannelDuplexHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundIn = HTTPClientRequestPart
    typealias OutboundOut = HTTPClientRequestPart

    /// The connection ended before there was an answer.
    struct Gone: Error {}
    /// The answer was no success, or did not come.
    struct Refused: Error {}

    private var waiting: EventLoopPromise<Void>?
    private var isGood = false
    private var closes = false

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let promise = event as? EventLoopPromise<Void> { waiting = promise }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            isGood = (200..<300).contains(head.status.code)
            closes = !head.isKeepAlive
        case .body: break
        case .end:
            let promise = waiting
            waiting = nil
            if closes { context.close(promise: nil) }
            if isGood { promise?.succeed() } else { promise?.fail(Refused()) }
        }
    }

    func channelInactive(context: ChannelHandlerContext) { fail() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail()
        context.close(promise: nil)
    }

    private func fail() {
        waiting?.fail(Gone())
        waiting = nil
    }
}
