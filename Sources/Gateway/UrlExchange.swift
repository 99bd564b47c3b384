// SPDX-License-Identifier: Apache-2.0
import Dispatching
import HTTP
import NIOCore
import NIOHTTP1
import Synchronization

/// One answer of a function on its way to an HTTP client: whole, or in pieces behind a head of the function's own.
final class UrlExchange: Sendable {
    private enum State {
        /// Nothing has been sent.
        case waiting
        /// The function's head is not complete.
        case heading(UrlPrelude)
        case begun
        /// The head could not be used and the client was told so; what follows is dropped.
        case refused
    }

    private let responder: HTTPResponder
    private let cors: UrlCORS?
    /// What is added to the name of a function that is not there.
    private let hint: @Sendable (String) -> String
    private let state = Mutex(State.waiting)

    init(_ responder: HTTPResponder, cors: UrlCORS?, hint: @escaping @Sendable (String) -> String) {
        self.responder = responder
        self.cors = cors
        self.hint = hint
    }

    // MARK: In pieces

    func begin(_ start: AnswerStart) -> @Sendable (ByteBuffer) -> EventLoopFuture<Void>? {
        if let type = start.contentType, UrlPrelude.isAnnounced(by: type) {
            state.withLock { $0 = .heading(UrlPrelude()) }
        } else {
            state.withLock { $0 = .begun }
            begin(.ok, PlainDoor.streamHeaders(start))
        }
        return { [self] in take($0, start) }
    }

    private func take(_ part: ByteBuffer, _ start: AnswerStart) -> EventLoopFuture<Void>? {
        let progress: UrlPrelude.Progress? = state.withLock { state in
            guard case .heading(var prelude) = state else { return nil }
            state = .waiting  // lets the prelude be appended to in place
            let progress = prelude.take(part)
            state =
                switch progress {
                case .incomplete: .heading(prelude)
                case .complete: .begun
                case .unusable: .refused
                }
            return progress
        }
        switch progress {
        case .incomplete: return nil
        case .complete(let head, let rest):
            var headers = head.fields
            headers.add(contentsOf: PlainDoor.startHeaders(start))
            begin(head.status, headers)
            return rest.readableBytes > 0 ? responder.write(rest) : nil
        case .unusable(let problem):
            refuse(problem)
            return nil
        case nil: return isRefused ? nil : responder.write(part)
        }
    }

    private var isRefused: Bool {
        state.withLock { if case .refused = $0 { true } else { false } }
    }

    private func refuse(_ problem: BadUrlAnswer) {
        respond(.problem(.badGateway, "InvalidAnswer", problem.description))
    }

    private func begin(_ status: HTTPResponseStatus, _ headers: HTTPHeaders) {
        var headers = headers
        cors?.apply(to: &headers)
        responder.begin(status, headers: headers)
    }

    private func respond(_ response: HTTPResponse) {
        var response = response
        cors?.apply(to: &response.headers)
        responder.respond(response)
    }

    // MARK: The end

    func end(_ result: InvocationResult) {
        switch (state.withLock({ $0 }), result.outcome) {
        case (.waiting, _): respond(Self.response(result, hint))
        case (.begun, .success): responder.end(trailers: PlainDoor.endHeaders(result))
        case (.begun, .failure): responder.abort()
        case (.heading, .failure): respond(PlainDoor.response(result, hint: hint))
        case (.heading, .success): refuse(BadUrlAnswer("it ended before its head did"))
        case (.refused, _): break
        }
    }

    /// What is answered to a result; of an answer in pieces it is the function's own, and has been sent.
    @Sendable static func status(_ result: InvocationResult) -> Int? {
        result.isStreamed ? nil : Int(response(result) { _ in "" }.status.code)
    }

    private static func response(_ result: InvocationResult, _ hint: (String) -> String) -> HTTPResponse {
        PlainDoor.response(result, hint: hint) { body in
            do throws(BadUrlAnswer) {
                if let type = result.contentType { return try Self.collected(body, type) }
                guard let answer = try UrlAnswer.find(in: body) else { return .answer(body) }
                return HTTPResponse(answer.head.status, headers: answer.head.fields, body: answer.body)
            } catch {
                return .problem(.badGateway, "InvalidAnswer", error.description)
            }
        }
    }

    /// An answer that came in pieces and is passed on whole, since the address is `BUFFERED`.
    private static func collected(_ body: ByteBuffer, _ type: String) throws(BadUrlAnswer) -> HTTPResponse {
        guard UrlPrelude.isAnnounced(by: type) else {
            return HTTPResponse(.ok, headers: ["Content-Type": type], body: body)
        }
        var prelude = UrlPrelude()
        switch prelude.take(body) {
        case .incomplete: throw BadUrlAnswer("it ended before its head did")
        case .unusable(let problem): throw problem
        case .complete(let head, let rest): return HTTPResponse(head.status, headers: head.fields, body: rest)
        }
    }
}
