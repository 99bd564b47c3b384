// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1

/// Lambda's `Invoke`: errors of the function are answers with status 200 and a header that says so.
struct LambdaInvoke {
    let context: GatewayContext

    func invoke(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        do throws(LambdaError) {
            let reference = try FunctionReference(name).checked(request.query("Qualifier"))
            switch request.headers.first(name: "X-Amz-Invocation-Type") ?? "RequestResponse" {
            case "RequestResponse": try run(reference, request, responder)
            case "DryRun": responder.respond(try dryRun(reference))
            case "Event":
                throw .invalid("InvocationType Event is not offered yet: use RequestResponse")
            case let other:
                throw .invalid("InvocationType must be RequestResponse or DryRun, not '\(other)'")
            }
        } catch {
            responder.respond(error.response)
        }
    }

    private func dryRun(_ reference: FunctionReference) throws(LambdaError) -> HTTPResponse {
        guard context.catalog[reference.name] != nil else {
            throw .notFound(FunctionReference.arn(reference.name, qualifier: "$LATEST"))
        }
        return HTTPResponse(.noContent)
    }

    private func run(
        _ reference: FunctionReference,
        _ request: HTTPRequest,
        _ responder: HTTPResponder
    ) throws(LambdaError) {
        let invocation: InvocationRequest
        do throws(BadHeader) {
            let arn = FunctionReference.arn(reference.name, qualifier: reference.qualifier)
            invocation = try InvocationRequest(reference.name, request, arn: arn)
        } catch {
            throw .invalid(error.description)
        }
        let wantsTail = request.headers.first(name: "X-Amz-Log-Type") == "Tail"
        let withdraw = context.dispatcher.invoke(invocation, requestID: RequestID.make()) { result in
            responder.respond(Self.response(result, function: reference.name, tail: wantsTail))
        }
        responder.onDisconnect(withdraw)
    }

    private static func response(_ result: InvocationResult, function: String, tail: Bool) -> HTTPResponse {
        var response = HTTPResponse(.ok)
        response.headers = [
            "Content-Type": "application/json", "x-amzn-RequestId": result.requestID,
            "X-Amz-Executed-Version": "$LATEST",
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
        if tail { response.headers.add(name: "X-Amz-Log-Result", value: Base64.encode(result.logTail)) }
        return response
    }
}
