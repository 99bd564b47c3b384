// SPDX-License-Identifier: Apache-2.0
import Dispatching
import HTTP
import Linux
import NIOCore
import NIOHTTP1

/// `/url/NAME/…`, any method: the request is the event, and the function's answer is the answer, as with Lambda's
/// function URLs (payload format 2.0).
struct UrlDoor {
    let context: GatewayContext

    func invoke(_ name: String, _ path: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
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
        let exchange = UrlExchange(responder)
        let withdraw = context.dispatcher.invoke(
            invocation,
            requestID: id,
            stream: { exchange.begin($0) },
            completion: { exchange.end($0) }
        )
        responder.onDisconnect(withdraw)
    }
}
