// SPDX-License-Identifier: Apache-2.0
import Dispatching
import Functions
import HTTP
import Linux
import NIOCore
import NIOHTTP1
import Policy

/// `/url/NAME/…`, any method: the request is the event, and the function's answer is the answer, as with Lambda's
/// function URLs (payload format 2.0).
struct UrlDoor {
    let context: GatewayContext

    /// What was said of the address that a request is for; `nil` when nothing was, or it is for none.
    func record(_ request: HTTPRequest) -> UrlRecord? {
        guard request.path.hasPrefix("/url/"), case .url(let name, _) = Route(request.method, request.path) else {
            return nil
        }
        return context.catalog.url(PlanName.function(name), PlanName.version(name))
    }

    func allowsOrigin(_ request: HTTPRequest) -> Bool { UrlCORS(record(request), request.headers) != nil }

    func invoke(_ name: String, _ path: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        let url = context.catalog.url(PlanName.function(name), PlanName.version(name))
        let cors = UrlCORS(url, request.headers)
        if let answer = cors?.preflight(request) { return responder.respond(answer) }
        let id = RequestID.make()
        let event = UrlEvent(name, path, request, peer: responder.peerAddress, requestID: id, nowMs: WallClock.nowMs())
        var invocation: InvocationRequest
        do throws(BadHeader) {
            let origin = context.origin(request, "/url/{function}/{path}", status: UrlExchange.status)
            invocation = try InvocationRequest(name, request, arn: FunctionReference.arn(name), http: origin)
        } catch {
            return responder.respond(.problem(.badRequest, "InvalidHeader", error.description))
        }
        invocation.payload = event.json
        invocation.trigger = .url
        let exchange = UrlExchange(responder, cors: cors, hint: context.hint)
        let pieces: StreamReceiver = { exchange.begin($0) }
        let withdraw = context.dispatcher.invoke(
            invocation,
            requestID: id,
            stream: url?.mode == .buffered ? nil : pieces,
            completion: { exchange.end($0) }
        )
        responder.onDisconnect(withdraw)
    }
}
