// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1
import Policy
import Pool
import Units

/// `POST /invoke/NAME`: the body is the event, the answer is the function's answer. The door for `curl`.
struct PlainDoor {
    let context: GatewayContext

    func invoke(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        let invocation: InvocationRequest
        let (isForLater, wantsTail): (Bool, Bool)
        do throws(BadHeader) {
            let kinds = ["RequestResponse", "Event"]
            isForLater = try InvocationRequest.word(request, "X-Amz-Invocation-Type", kinds) == "Event"
            wantsTail = try InvocationRequest.word(request, "X-Amz-Log-Type", ["None", "Tail"]) == "Tail"
            invocation = try InvocationRequest(name, request, arn: FunctionReference.arn(name))
        } catch {
            return responder.respond(.problem(.badRequest, "InvalidHeader", error.description))
        }
        if isForLater { return accept(invocation, responder) }
        let withdraw = context.dispatcher.invoke(invocation, requestID: RequestID.make()) { result in
            responder.respond(Self.response(result, tail: wantsTail))
        }
        responder.onDisconnect(withdraw)
    }

    /// For later: answered when the event is on disk, with the id that tells what becomes of it.
    private func accept(_ invocation: InvocationRequest, _ responder: HTTPResponder) {
        let id = RequestID.make()
        context.runner.accept(invocation, requestID: id) { result in
            switch result {
            case .success:
                var response = HTTPResponse.json(.accepted, AcceptedView(requestId: id))
                response.headers.add(name: "X-Fn-Request-Id", value: id)
                responder.respond(response)
            case .failure(.invalid(let failure)): responder.respond(Self.response(failure))
            case .failure(.storage(let error)):
                responder.respond(.problem(error.status, error.code, error.description))
            }
        }
    }

    static func response(_ result: InvocationResult, tail: Bool) -> HTTPResponse {
        var response: HTTPResponse
        switch result.outcome {
        case .success(let body): response = HTTPResponse(.ok, headers: ["Content-Type": "application/json"], body: body)
        case .failure(let failure): response = Self.response(failure)
        }
        response.headers.add(name: "X-Fn-Request-Id", value: result.requestID)
        if let start = result.start {
            response.headers.add(name: "X-Fn-Start", value: start.rawValue)
            response.headers.add(name: "X-Fn-Duration-Ms", value: result.durationText)
        }
        if let peak = result.peak { response.headers.add(name: "X-Fn-Memory-Peak-Mb", value: String(peak.mebibytes)) }
        if let grown = result.grownTo {
            response.headers.add(name: "X-Fn-Memory-Grown-Mb", value: String(grown.mebibytes))
        }
        if tail { response.headers.add(name: "X-Amz-Log-Result", value: Base64.encode(result.logTail)) }
        return response
    }

    private static func response(_ failure: InvocationFailure) -> HTTPResponse {
        func ofFunction(_ status: HTTPResponseStatus, _ document: ByteBuffer) -> HTTPResponse {
            HTTPResponse(
                status,
                headers: ["Content-Type": "application/json", "X-Fn-Error": "Unhandled"],
                body: document
            )
        }
        switch failure {
        case .functionError(let document): return ofFunction(.badGateway, document)
        case .outOfMemory(let document): return ofFunction(.insufficientStorage, document)
        case .timedOut(let document): return ofFunction(.gatewayTimeout, document)
        case .unknownFunction(let name): return .problem(.notFound, "FunctionNotFound", "no such function: \(name)")
        case .payloadNotJSON(let why):
            return .problem(.badRequest, "InvalidPayload", "Could not parse request body into json: \(why)")
        case .payloadTooLarge(let limit):
            return .problem(
                .payloadTooLarge,
                "PayloadTooLarge",
                "the event is larger than \(limit) (limits.payload and limits.payload_async in fn.yaml)"
            )
        case .overCeiling(let what, let wanted, let limit):
            return .problem(.badRequest, "OverLimit", "\(what): \(wanted) is above the operator's limit of \(limit)")
        case .throttled(let refusal):
            return .problem(
                .tooManyRequests,
                "Throttled",
                refusal.reason,
                headers: ["Retry-After": String(refusal.retryAfter)]
            )
        case .cannotStart(let why): return .problem(.serviceUnavailable, "CannotStart", why)
        case .shuttingDown: return .problem(.serviceUnavailable, "ShuttingDown", "the daemon is stopping")
        }
    }
}

extension InvocationResult {
    /// Milliseconds with two decimals.
    var durationText: String {
        let hundredths = Int64((duration.seconds * 100_000).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }
}

extension PoolRefusal {
    /// Seconds until it may be worth trying again.
    var retryAfter: Int {
        if case .hostPressure = self { 5 } else { 1 }
    }
}
