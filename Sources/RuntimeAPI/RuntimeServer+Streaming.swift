// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOCore
import NIOHTTP1

/// Answers that arrive in pieces: `POST …/response` with `Lambda-Runtime-Function-Response-Mode: streaming`.
extension RuntimeServer {
    func streamHandler(_ head: HTTPRequestHead) -> HTTPStreamHandler? {
        guard head.method == .POST, case .streaming = ResponseMode(head.headers),
            case .response(let id) = RuntimeRoute(head.method, head.uri)
        else { return nil }
        return { [self] in receive(id, $0, $1) }
    }

    private func receive(_ requestID: String, _ request: HTTPRequest, _ responder: HTTPResponder) -> any HTTPBodySink {
        let sink: AnswerSink
        do {
            sink = try beginStream(requestID, AnswerHead(contentType: request.headers.first(name: "Content-Type")))
        } catch {
            responder.respond(.refusal(error))
            return StreamedBody.refused
        }
        return StreamedBody(
            sink: sink,
            onEnd: { [self] in end(requestID, $0, responder) },
            onBreak: { [self] in broke(requestID, responder) }
        )
    }

    private func end(_ requestID: String, _ trailers: HTTPHeaders, _ responder: HTTPResponder) {
        guard endStream(requestID) else { return responder.abort() }
        // The runtime may go on before the caller has all of its answer: its next call must find the session ready.
        responder.respond(.accepted)
        onEvent(.answered(requestID: requestID, .streamed(MidstreamError(trailers))))
    }

    /// Most often the process has ended, and its end says more than the lost connection does: it comes first.
    private func broke(_ requestID: String, _ responder: HTTPResponder) {
        guard breakStream(requestID) else { return }
        responder.eventLoop.scheduleTask(in: Self.timeToEnd) { [self] in onEvent(.brokeOff(requestID: requestID)) }
    }

    private static let timeToEnd = TimeAmount.seconds(1)
}
