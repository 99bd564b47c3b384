// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOCore
import NIOHTTP1
import Synchronization

/// Serves the Runtime API to one sandbox, over a listener that lives in the sandbox's own network namespace.
///
/// The listener identifies the sandbox: nothing that a peer says is needed to know who it is. What untrusted code can
/// make the daemon hold is bounded by `Limits`.
package final class RuntimeServer: Sendable {
    /// What one sandbox may make the daemon hold.
    package enum Limits {
        /// Connections at once: a runtime with several processes, its extensions, and some to spare.
        package static func connections(_ places: Int) -> Int { 24 + 2 * places }
        /// The official Python client reports errors in a header of up to 1 MiB.
        package static let headerField = 1 << 20
    }

    private let session: Mutex<RuntimeSession<HTTPResponder>>
    let extensions: Mutex<ExtensionRegistry<HTTPResponder>>
    private let places: Int
    /// `nil` until it is a function's.
    private let assigned: Mutex<FunctionIdentity?>
    /// Who waits to be told which function it is.
    private let unassigned = Mutex<HTTPResponder?>(nil)
    let telemetry: TelemetryHub
    /// It begins to serve a moment after it was told to; who closes it before that is heard then.
    private struct Serving {
        var server: HTTPServer?
        var isClosed = false
    }
    private let serving = Mutex(Serving())
    /// Whether the runtime has said that it answers hints (`Fn-Hints: 1` with its `next`).
    private let knowsHints = Mutex(false)
    /// Who takes the answer of an invocation that was delivered, if it is streamed.
    private let streams = Mutex<[String: @Sendable (AnswerHead) -> AnswerSink]>([:])
    let onEvent: @Sendable (RuntimeEvent) -> Void

    /// - Parameters:
    ///   - identity: what extensions are told of the function; `nil` for a runtime that is started ahead of any.
    ///   - places: requests that may run at once.
    ///   - telemetry: takes subscriptions, and is told how the runtime starts.
    ///   - onEvent: told what the runtime does, in order, on an event loop; must not block.
    package init(
        _ identity: FunctionIdentity?,
        places: Int,
        telemetry: TelemetryHub,
        onEvent: @escaping @Sendable (RuntimeEvent) -> Void
    ) {
        session = Mutex(RuntimeSession(places: places))
        extensions = Mutex(ExtensionRegistry(allowsInvoke: places == 1))
        self.places = places
        assigned = Mutex(identity)
        self.telemetry = telemetry
        self.onEvent = onEvent
    }

    /// Starts to serve on a socket that listens already; the server owns the descriptor from here on.
    ///
    /// - Parameter answerLimit: the largest answer of a function, in bytes, as it is when one comes.
    package func start(
        on listener: CInt,
        group: any EventLoopGroup,
        answerLimit: @escaping @Sendable () -> Int
    ) -> EventLoopFuture<Void> {
        var configuration = HTTPServerConfiguration()
        configuration.maxConnections = Limits.connections(places)
        configuration.maxHeaderField = Limits.headerField
        configuration.idleTimeout = .hours(24 * 365)  // a runtime holds its connection for life, also while frozen
        configuration.readTimeout = .minutes(15)
        configuration.readsAtOnce = 1  // what a streaming function has written is read as its caller takes it
        configuration.bodyLimit = { [self] in bodyLimit($0, answerLimit()) }
        // Each of its connections could begin an answer and never end it.
        configuration.bodyBudget = BodyBudget { [places] in answerLimit() * places + (2 << 20) }
        configuration.streamHandler = { [self] in streamHandler($0) }
        configuration.tooLarge = { [self] head, limit in refuseOversized(head, limit) }
        return
            HTTPServer.start(on: .socket(listener), group: group, configuration: configuration) { [self] in
                handle($0, $1)
            }
            .map { [self] started in
                let isClosed = serving.withLock { serving in
                    if !serving.isClosed { serving.server = started }
                    return serving.isClosed
                }
                if isClosed { started.close() }
            }
    }

    /// An answer may be large, and the report of a start that failed; nothing else is.
    private func bodyLimit(_ head: HTTPRequestHead, _ answer: Int) -> Int {
        switch RuntimeRoute(head.method, head.uri) {
        case .response, .error: answer
        case .initError, .restoreError: min(answer, 1 << 20)
        default: 256 << 10
        }
    }

    /// Gives the waiting runtime an invocation; `false` when it is not waiting.
    package func deliver(_ invocation: RuntimeInvocation) -> Bool {
        guard let waiter = session.withLock({ $0.deliver(invocation.requestID) }) else { return false }
        streams.withLock { $0[invocation.requestID] = invocation.stream }
        // Before the runtime has it: it may be done, and ask again, before this returns.
        give(extensions.withLock { $0.invoke(invocation.asSeenByExtensions) })
        waiter.respond(HTTPResponse(.ok, headers: invocation.headers, body: invocation.payload))
        return true
    }

    var identity: FunctionIdentity? { assigned.withLock { $0 } }

    /// Makes the runtime that was started ahead a function's; `false` when it does not wait for one.
    ///
    /// - Parameter environment: all the variables it has from now on.
    package func assign(_ identity: FunctionIdentity, environment: [String: String]) -> Bool {
        let waiter = unassigned.withLock { waiter in
            defer { waiter = nil }
            return waiter
        }
        guard let waiter else { return false }
        assigned.withLock { $0 = identity }
        waiter.respond(HTTPResponse(.ok, text: AssignmentDocument.make(environment)))
        return true
    }

    private func awaitAssignment(_ responder: HTTPResponder) {
        guard identity == nil else {
            let message = "this sandbox has its function"
            return responder.respond(.runtimeError(.forbidden, "InvalidStateTransition", message))
        }
        unassigned.withLock { $0 = responder }
        onEvent(.unassigned)
    }

    /// Asks the waiting runtime to give back memory that it does not need, by answering its `next` with
    /// `Fn-Event: idle` and no invocation; it asks again when it has. `false` when it is not waiting or knows no hints.
    package func hintIdle() -> Bool {
        guard knowsHints.withLock({ $0 }) else { return false }
        let waiters = session.withLock { $0.hint() }
        for waiter in waiters { waiter.respond(HTTPResponse(.ok, headers: ["Fn-Event": "idle"])) }
        return !waiters.isEmpty
    }

    /// Whether the runtime has asked for work and has none.
    package var isWaiting: Bool { session.withLock { $0.isWaiting } }

    /// Whether the runtime was hinted and has not asked for work again.
    package var isHinted: Bool { session.withLock { $0.isHinted } }

    /// How many connections the sandbox has open now.
    package var connectionCount: Int { serving.withLock { $0.server }?.connectionCount ?? 0 }

    /// Closes the listener and every connection, and lets go of them: they refer to this server.
    package func close() {
        let closed = serving.withLock { serving in
            defer { serving = Serving(server: nil, isClosed: true) }
            return serving.server
        }
        closed?.close()
        streams.withLock { $0 = [:] }
    }

    private func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        switch RuntimeRoute(request.method, request.path) {
        case .next: next(request, responder)
        case .response where ResponseMode(request.headers) == nil:
            responder.respond(
                .runtimeError(
                    .badRequest,
                    "InvalidFunctionResponseMode",
                    "Lambda-Runtime-Function-Response-Mode must be streaming or buffered"
                )
            )
        case .response(let id): answer(id, .response(request.body), responder)
        case .error(let id): answer(id, .error(request.body, type: errorType(request)), responder)
        case .initError: initError(request, responder)
        case .restoreNext: restoreNext(responder)
        case .restoreError: restoreError(request, responder)
        case .assignment: awaitAssignment(responder)
        case .ping: responder.respond(HTTPResponse(.ok, text: "pong", type: "text/plain"))
        case nil:
            if let route = ExtensionRoute(request.method, request.path) { return handle(route, request, responder) }
            responder.respond(.runtimeError(.notFound, "NotFound", "no such call: \(request.method) \(request.path)"))
        }
    }

    private func next(_ request: HTTPRequest, _ responder: HTTPResponder) {
        if request.headers.first(name: "Fn-Hints") == "1" { knowsHints.withLock { $0 = true } }
        do {
            let (token, isRepeated) = try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in
                try session.next(responder)
            }
            responder.onDisconnect { [self] in session.withLock { $0.lost(token) } }
            if !isRepeated { telemetry.runtimeStarted() }
            if isRepeated || extensions.withLock({ $0.runtimeIsWaiting() }) {
                onEvent(.waiting(isRepeated: isRepeated))
            }
        } catch {
            responder.respond(.refusal(error))
        }
    }

    private func answer(_ requestID: String, _ answer: RuntimeAnswer, _ responder: HTTPResponder) {
        do {
            try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in
                try session.answer(requestID)
            }
            _ = takeReceiver(requestID)
            // The runtime may go on before the caller has its answer: its next call must find the session ready.
            responder.respond(.accepted)
            onEvent(.answered(requestID: requestID, answer))
        } catch {
            responder.respond(.refusal(error))
        }
    }

    // MARK: Answers in pieces

    func beginStream(
        _ requestID: String,
        _ head: AnswerHead
    ) throws(RuntimeSession<HTTPResponder>.Refusal) -> AnswerSink {
        try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in
            try session.beginStream(requestID)
        }
        guard let receiver = takeReceiver(requestID) else { throw .invalidRequestID }
        return receiver(head)
    }

    /// It refers to the invocation, and through it to this sandbox: it is kept no longer than until the answer begins.
    private func takeReceiver(_ requestID: String) -> (@Sendable (AnswerHead) -> AnswerSink)? {
        streams.withLock { $0.removeValue(forKey: requestID) }
    }

    func endStream(_ requestID: String) -> Bool { session.withLock { $0.endStream(requestID) } }

    func breakStream(_ requestID: String) -> Bool { session.withLock { $0.breakStream(requestID) } }

    // MARK: Errors

    private func initError(_ request: HTTPRequest, _ responder: HTTPResponder) {
        do {
            try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in try session.initError() }
            telemetry.runtimeStarted(errorType: errorType(request) ?? "Runtime.Unknown")
            // Before the answer: when it has that it ends, and its end must not be told first.
            onEvent(.initFailed(request.body, type: errorType(request)))
            responder.respond(.accepted)
        } catch {
            responder.respond(.refusal(error))
        }
    }

    /// Nothing is restored here: a sandbox is started, and from then on it is the same process.
    private func restoreNext(_ responder: HTTPResponder) {
        do {
            try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in try session.restoreNext() }
            responder.respond(HTTPResponse(.ok))
        } catch {
            responder.respond(.refusal(error))
        }
    }

    private func restoreError(_ request: HTTPRequest, _ responder: HTTPResponder) {
        do {
            try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in try session.restoreError() }
            onEvent(.initFailed(request.body, type: errorType(request)))
            responder.respond(.accepted)
        } catch {
            responder.respond(.refusal(error))
        }
    }

    /// An answer over the limit still ends its invocation: with an error that says so.
    private func refuseOversized(_ head: HTTPRequestHead, _ limit: Int) -> HTTPResponse {
        guard case .response(let id) = RuntimeRoute(head.method, head.uri) else {
            return .runtimeError(.payloadTooLarge, "RequestEntityTooLarge", "the limit is \(limit) bytes")
        }
        do {
            try session.withLock { session throws(RuntimeSession<HTTPResponder>.Refusal) in try session.answer(id) }
        } catch {
            return .refusal(error)
        }
        _ = takeReceiver(id)
        onEvent(.answered(requestID: id, .tooLarge(limit: limit)))
        return .runtimeError(
            .payloadTooLarge,
            "RequestEntityTooLarge",
            "the answer is over the limit of \(limit) bytes"
        )
    }

    private func errorType(_ request: HTTPRequest) -> String? {
        request.headers.first(name: "Lambda-Runtime-Function-Error-Type")
    }
}

extension RuntimeInvocation {
    fileprivate var asSeenByExtensions: ExtensionEvent.Invocation {
        ExtensionEvent.Invocation(
            requestID: requestID,
            deadlineMs: deadlineMs,
            functionARN: functionARN,
            traceID: traceID
        )
    }

    /// The headers of the answer to `next`; empty ones are left out, as clients test for presence.
    fileprivate var headers: HTTPHeaders {
        var headers: HTTPHeaders = [
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": requestID,
            "Lambda-Runtime-Deadline-Ms": String(deadlineMs),
            "Lambda-Runtime-Invoked-Function-Arn": functionARN,
        ]
        if let traceID { headers.add(name: "Lambda-Runtime-Trace-Id", value: traceID) }
        if let traceParent { headers.add(name: "traceparent", value: traceParent) }
        if let traceState { headers.add(name: "tracestate", value: traceState) }
        if let clientContext { headers.add(name: "Lambda-Runtime-Client-Context", value: clientContext) }
        return headers
    }
}

extension HTTPResponse {
    static let accepted: HTTPResponse = {
        var response = HTTPResponse(.accepted, text: #"{"status":"OK"}"#)
        response.isAcknowledgement = true
        return response
    }()

    static func runtimeError(
        _ status: HTTPResponseStatus,
        _ type: String,
        _ message: String
    ) -> HTTPResponse {
        let escaped = message.filter { $0 != "\"" && $0 != "\\" && !$0.isNewline }
        return HTTPResponse(status, text: #"{"errorMessage":"\#(escaped)","errorType":"\#(type)"}"#)
    }

    static func refusal(_ refusal: RuntimeSession<HTTPResponder>.Refusal) -> HTTPResponse {
        switch refusal {
        case .invalidStateTransition(let what): runtimeError(.forbidden, "InvalidStateTransition", what)
        case .invalidRequestID: runtimeError(.badRequest, "InvalidRequestID", "Invalid request ID")
        }
    }
}
