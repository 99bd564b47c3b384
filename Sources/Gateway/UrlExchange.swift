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
    private let state = Mutex(State.waiting)

    init(_ responder: HTTPResponder) { self.responder = responder }

    // MARK: In pieces

    func begin(_ start: AnswerStart) -> @Sendable (ByteBuffer) -> EventLoopFuture<Void>? {
        if let type = start.contentType, UrlPrelude.isAnnounced(by: type) {
            state.withLock { $0 = .heading(UrlPrelude()) }
        } else {
            state.withLock { $0 = .begun }
            responder.begin(.ok, headers: PlainDoor.streamHeaders(start))
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
            responder.begin(head.status, headers: headers)
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
        responder.respond(.problem(.badGateway, "InvalidAnswer", problem.description))
    }

    // MARK: The end

    func end(_ result: InvocationResult) {
        switch (state.withLock({ $0 }), result.outcome) {
        case (.waiting, _): responder.respond(Self.response(result))
        case (.begun, .success): responder.end(trailers: PlainDoor.endHeaders(result))
        case (.begun, .failure): responder.abort()
        case (.heading, .failure): responder.respond(PlainDoor.response(result, tail: false))
        case (.heading, .success): refuse(BadUrlAnswer("it ended before its head did"))
        case (.refused, _): break
        }
    }

    /// What is answered to a result; of an answer in pieces it is the function's own, and has been sent.
    @Sendable static func status(_ result: InvocationResult) -> Int? {
        result.isStreamed ? nil : Int(response(result).status.code)
    }

    private static func response(_ result: InvocationResult) -> HTTPResponse {
        PlainDoor.response(result, tail: false) { body in
            do throws(BadUrlAnswer) {
                guard let answer = try UrlAnswer.find(in: body) else { return .answer(body) }
                return HTTPResponse(answer.head.status, headers: answer.head.fields, body: answer.body)
            } catch {
                return .problem(.badGateway, "InvalidAnswer", error.description)
            }
        }
    }
}
