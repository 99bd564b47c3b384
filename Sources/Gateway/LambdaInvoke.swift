// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1

/// Lambda's `Invoke`: errors of the function are answers with status 200 and a header that says so.
struct LambdaInvoke {
    let context: GatewayContext

    /// `InvokeWithResponseStream`: the answer as event-stream messages, as it comes; one that does not come in pieces is
    /// sent when it is whole.
    func invokeStream(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        do throws(LambdaError) {
            let reference = try FunctionReference(name).checked(request.query("Qualifier"))
            switch request.headers.first(name: "X-Amz-Invocation-Type") ?? "RequestResponse" {
            case "RequestResponse": break
            case "DryRun": return responder.respond(try dryRun(reference))
            case let other: throw .invalid("InvocationType must be RequestResponse or DryRun, not '\(other)'")
            }
            let pieces = LambdaStream(responder: responder)
            try run(reference, request, responder, pieces: pieces) { response in
                guard response.status == .ok else { return response }
                var stream = response
                stream.headers.replaceOrAdd(name: "Content-Type", value: LambdaStream.contentType)
                stream.headers.remove(name: "X-Amz-Function-Error")
                stream.headers.remove(name: "X-Amz-Log-Result")
                stream.body = EventStreamMessage.answer(
                    response.body,
                    error: response.headers.first(name: "X-Amz-Function-Error"),
                    log: response.headers.first(name: "X-Amz-Log-Result")
                )
                return stream
            }
        } catch {
            responder.respond(error.response)
        }
    }

    /// `InvokeAsync`, which `Event` has replaced and SDKs still have.
    func invokeAsync(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        do throws(LambdaError) {
            try accept(try FunctionReference(name).checked(nil), request, responder, body: "{\"Status\":202}")
        } catch {
            responder.respond(error.response)
        }
    }

    func invoke(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        do throws(LambdaError) {
            let reference = try FunctionReference(name).checked(request.query("Qualifier"))
            switch request.headers.first(name: "X-Amz-Invocation-Type") ?? "RequestResponse" {
            case "RequestResponse": try run(reference, request, responder)
            case "DryRun": responder.respond(try dryRun(reference))
            case "Event": try accept(reference, request, responder)
            case let other:
                throw .invalid("InvocationType must be RequestResponse, Event or DryRun, not '\(other)'")
            }
        } catch {
            responder.respond(error.response)
        }
    }

    private func dryRun(_ reference: FunctionReference) throws(LambdaError) -> HTTPResponse {
        guard context.catalog.resolve(reference.name, reference.qualifier) != nil else {
            throw .notFound(FunctionReference.arn(reference.name, qualifier: reference.qualifier ?? "$LATEST"))
        }
        return HTTPResponse(.noContent, headers: ["x-amzn-RequestId": RequestID.make()])
    }

    private static func wantsTail(_ request: HTTPRequest) throws(LambdaError) -> Bool {
        switch request.headers.first(name: "X-Amz-Log-Type") ?? "None" {
        case "None": false
        case "Tail": true
        case let other: throw .invalid("LogType must be None or Tail, not '\(other)'")
        }
    }

    /// `Event`, and the older `InvokeAsync`: answered when the event is on disk.
    func accept(
        _ reference: FunctionReference,
        _ request: HTTPRequest,
        _ responder: HTTPResponder,
        body: String = ""
    ) throws(LambdaError) {
        let (invocation, id) = (try self.invocation(reference, request), RequestID.make())
        context.runner.accept(invocation, requestID: id) { result in
            switch result {
            case .success:
                var response = HTTPResponse(.accepted, text: body)
                response.headers.add(name: "x-amzn-RequestId", value: id)
                responder.respond(response)
            case .failure(.invalid(let failure)):
                let error = LambdaError(failure, function: reference.name)
                responder.respond(error?.response ?? HTTPResponse(.internalServerError))
            case .failure(.storage(let error)): responder.respond(LambdaError(error).response)
            }
        }
    }

    private func run(
        _ reference: FunctionReference,
        _ request: HTTPRequest,
        _ responder: HTTPResponder,
        pieces: LambdaStream? = nil,
        as form: @escaping @Sendable (HTTPResponse) -> HTTPResponse = { $0 }
    ) throws(LambdaError) {
        var invocation = try invocation(reference, request)
        invocation.wantsLogTail = try Self.wantsTail(request)
        let withdraw = context.dispatcher.invoke(
            invocation,
            requestID: RequestID.make(),
            stream: pieces?.receiver
        ) { result in
            if let pieces, result.isStreamed { return pieces.end(result) }
            var response = Self.response(result, function: reference.name)
            if let trace = result.traceID { response.headers.add(name: "X-Amzn-Trace-Id", value: trace) }
            responder.respond(form(response))
        }
        responder.onDisconnect(withdraw)
    }

    private func invocation(
        _ reference: FunctionReference,
        _ request: HTTPRequest
    ) throws(LambdaError) -> InvocationRequest {
        for name in ["X-Amz-Tenant-Id", "X-Amz-Durable-Execution-Name"] where request.headers.contains(name: name) {
            throw .invalid("\(name) is not offered: leave it out")
        }
        do throws(BadHeader) {
            let arn = FunctionReference.arn(reference.name, qualifier: reference.qualifier)
            let name = reference.name
            let origin = context.origin(request, "/2015-03-31/functions/{FunctionName}/invocations") { result in
                result.isStreamed ? 200 : Int(Self.response(result, function: name).status.code)
            }
            return try InvocationRequest(name, request, arn: arn, http: origin)
        } catch {
            throw .invalid(error.description)
        }
    }

    private static func response(_ result: InvocationResult, function: String) -> HTTPResponse {
        var response = HTTPResponse(.ok)
        response.headers = [
            "Content-Type": "application/json", "x-amzn-RequestId": result.requestID,
            "X-Amz-Executed-Version": result.version,
        ]
        switch result.outcome {
        case .success(let body): response.body = body
        case .failure(.functionError(let document)), .failure(.outOfMemory(let document)),
            .failure(.timedOut(let document)):
            response.headers.add(name: "X-Amz-Function-Error", value: "Unhandled")
            response.body = document
        case .failure(let failure):
            return LambdaError(failure, function: function)?.response ?? HTTPResponse(.internalServerError)
        }
        if let tail = result.logTail { response.headers.add(name: "X-Amz-Log-Result", value: Base64.encode(tail)) }
        return response
    }
}
