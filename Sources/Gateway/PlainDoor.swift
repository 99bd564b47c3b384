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
        var invocation: InvocationRequest
        let isForLater: Bool
        do throws(BadHeader) {
            let kinds = ["RequestResponse", "Event"]
            isForLater = try InvocationRequest.word(request, "X-Amz-Invocation-Type", kinds) == "Event"
            let logType = try InvocationRequest.word(request, "X-Amz-Log-Type", ["None", "Tail"])
            let origin = context.origin(request, "/invoke/{function}", status: Self.status)
            invocation = try InvocationRequest(name, request, arn: FunctionReference.arn(name), http: origin)
            invocation.wantsLogTail = logType == "Tail"
        } catch {
            return responder.respond(.problem(.badRequest, "InvalidHeader", error.description))
        }
        if isForLater { return accept(invocation, responder) }
        let withdraw = context.dispatcher.invoke(
            invocation,
            requestID: RequestID.make(),
            stream: { start in
                responder.begin(.ok, headers: Self.streamHeaders(start))
                return { responder.write($0) }
            },
            completion: { result in
                switch (result.isStreamed, result.outcome) {
                case (false, _): responder.respond(Self.response(result, hint: context.hint))
                case (true, .success): responder.end(trailers: Self.endHeaders(result))
                case (true, .failure): responder.abort()
                }
            }
        )
        responder.onDisconnect(withdraw)
    }

    /// What this door answers to a result.
    @Sendable private static func status(_ result: InvocationResult) -> Int? {
        result.isStreamed ? 200 : Int(response(result, hint: { _ in "" }).status.code)
    }

    /// The head of an answer that comes in pieces.
    static func streamHeaders(_ start: AnswerStart) -> HTTPHeaders {
        var headers = startHeaders(start)
        headers.add(name: "Content-Type", value: start.contentType ?? "application/octet-stream")
        return headers
    }

    /// What is known when an answer in pieces begins; what is known at its end follows it as trailers.
    static func startHeaders(_ start: AnswerStart) -> HTTPHeaders {
        [
            "X-Fn-Request-Id": start.requestID, "X-Fn-Start": start.start.rawValue, "Transfer-Encoding": "chunked",
            "Trailer": "X-Fn-Duration-Ms, X-Fn-Memory-Peak-Mb, X-Fn-Memory-Grown-Mb",
        ]
    }

    static func endHeaders(_ result: InvocationResult) -> HTTPHeaders {
        var headers = HTTPHeaders()
        if result.start != nil { headers.add(name: "X-Fn-Duration-Ms", value: result.durationText) }
        if let peak = result.peak { headers.add(name: "X-Fn-Memory-Peak-Mb", value: String(peak.mebibytes)) }
        if let grown = result.grownTo { headers.add(name: "X-Fn-Memory-Grown-Mb", value: String(grown.mebibytes)) }
        return headers
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
            case .failure(.invalid(let failure)): responder.respond(Self.response(failure, context.hint))
            case .failure(.storage(let error)):
                responder.respond(.problem(error.status, error.code, error.description))
            }
        }
    }

    /// - Parameters:
    ///   - hint: what is added to the name of a function that is not there.
    ///   - success: what a successful function's answer is made into.
    static func response(
        _ result: InvocationResult,
        hint: (String) -> String,
        success: (ByteBuffer) -> HTTPResponse = HTTPResponse.answer
    ) -> HTTPResponse {
        var response: HTTPResponse
        switch result.outcome {
        case .success(let body): response = success(body)
        case .failure(let failure): response = Self.response(failure, hint)
        }
        response.headers.add(name: "X-Fn-Request-Id", value: result.requestID)
        if let start = result.start { response.headers.add(name: "X-Fn-Start", value: start.rawValue) }
        response.headers.add(contentsOf: endHeaders(result))
        if let tail = result.logTail { response.headers.add(name: "X-Amz-Log-Result", value: Base64.encode(tail)) }
        return response
    }

    private static func response(_ failure: InvocationFailure, _ hint: (String) -> String) -> HTTPResponse {
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
        case .unknownFunction(let name):
            return .problem(.notFound, "FunctionNotFound", "no such function: \(name)\(hint(name))")
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

extension HTTPResponse {
    /// A function's answer as it is.
    static func answer(_ body: ByteBuffer) -> HTTPResponse {
        HTTPResponse(.ok, headers: ["Content-Type": "application/json"], body: body)
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
