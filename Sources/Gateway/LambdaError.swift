// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Functions
import HTTP
import NIOHTTP1
import Policy
import Pool

/// An error as AWS SDKs read it: status, `x-amzn-ErrorType`, and a JSON body.
struct LambdaError: Error {
    var status: HTTPResponseStatus
    var type: String
    var message: String
    var reason: String?
    var headers: HTTPHeaders = [:]

    init(_ status: HTTPResponseStatus, _ type: String, _ message: String) {
        self.status = status
        self.type = type
        self.message = message
    }

    static func notFound(_ arn: String) -> LambdaError {
        LambdaError(.notFound, "ResourceNotFoundException", "Function not found: \(arn)")
    }

    /// - Parameters:
    ///   - member: as Lambda's validation spells it, beginning with a small letter.
    ///   - constraint: what follows "Member must".
    static func validation(_ value: String, _ member: String, _ constraint: String) -> LambdaError {
        LambdaError(
            .badRequest,
            "ValidationException",
            "1 validation error detected: Value '\(value)' at '\(member)' failed to satisfy constraint: "
                + "Member must \(constraint)"
        )
    }

    static func invalid(_ message: String) -> LambdaError {
        LambdaError(.badRequest, "InvalidParameterValueException", message)
    }

    var response: HTTPResponse {
        // The service itself spells this member with a capital letter for some errors.
        var body = [(type == "ResourceNotFoundException" ? "Message" : "message"): message]
        if type != "ValidationException" { body["Type"] = status.code < 500 ? "User" : "Service" }
        if let reason { body["Reason"] = reason }
        var headers = headers
        headers.add(name: "x-amzn-ErrorType", value: type)
        headers.add(name: "x-amzn-RequestId", value: RequestID.make())
        return HTTPResponse(status, text: JSONText.encode(body), headers: headers)
    }

    init(_ error: FunctionsError) {
        switch error {
        case .alreadyExists(let name):
            self.init(.conflict, "ResourceConflictException", "Function already exist: \(name)")
        case .notFound(let name): self = .notFound(FunctionReference.arn(name))
        case .revisionMismatch:
            self.init(
                .preconditionFailed,
                "PreconditionFailedException",
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
            )
        case .aliasExists(let function, let name):
            let arn = FunctionReference.arn(function, qualifier: name)
            self.init(.conflict, "ResourceConflictException", "Alias already exists: \(arn)")
        case .aliasNotFound(let function, let name):
            let arn = FunctionReference.arn(function, qualifier: name)
            self.init(.notFound, "ResourceNotFoundException", "Cannot find alias arn: \(arn)")
        case .conflict(let message): self.init(.conflict, "ResourceConflictException", message)
        case .busy(let name):
            self.init(
                .conflict,
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource: "
                    + FunctionReference.arn(name)
            )
        case .invalid(let message): self = .invalid(message)
        case .archiveTooLarge, .imageTooLarge:
            self.init(.payloadTooLarge, "RequestEntityTooLargeException", error.description)
        case .unpackedTooLarge, .combinedTooLarge, .archiveUnreadable, .archiveHostile, .imageRefused,
            .unpackedImageTooLarge:
            self = .invalid(error.description)
        case .queueFull: self.init(.tooManyRequests, "TooManyRequestsException", error.description)
        case .diskFull, .diskFailed: self.init(.serviceUnavailable, "ServiceException", error.description)
        case .storage, .damaged: self.init(.internalServerError, "ServiceException", error.description)
        }
    }

    /// The platform's failures; those of the function itself are answers with status 200.
    init?(_ failure: InvocationFailure, function: String) {
        switch failure {
        case .functionError, .outOfMemory, .timedOut: return nil
        case .unknownFunction(let name):
            let isQualified = name.contains(":")
            self = .notFound(FunctionReference.arn(name, qualifier: isQualified ? nil : FunctionRecord.latest))
        case .payloadNotJSON(let why):
            self.init(.badRequest, "InvalidRequestContentException", "Could not parse request body into json: \(why)")
        case .payloadTooLarge(let limit):
            self.init(
                .payloadTooLarge,
                "RequestTooLargeException",
                "Request must be smaller than \(limit.count) bytes for the InvokeFunction operation"
            )
        case .overCeiling(let what, let wanted, let limit):
            self = .invalid("\(what): \(wanted) is above the limit of \(limit)")
        case .throttled(let refusal):
            self.init(.tooManyRequests, "TooManyRequestsException", "Rate Exceeded. \(refusal.reason)")
            if case .concurrency = refusal {
                reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
            } else {
                reason = "ConcurrentInvocationLimitExceeded"
            }
            headers.add(name: "Retry-After", value: "1")
        case .cannotStart(let why): self.init(.internalServerError, "ServiceException", why)
        case .shuttingDown: self.init(.serviceUnavailable, "ServiceException", "the daemon is stopping")
        }
    }
}
