// SPDX-License-Identifier: Apache-2.0
import Functions
import NIOCore
import Policy
import Pool
import Tracing
import Units

/// One request to run a function, parsed and within the limits of its door.
package struct InvocationRequest: Sendable {
    package var function: String
    package var payload: ByteBuffer
    /// This request's own size, in place of the function's.
    package var memory: Bytes?
    package var cpu: CPUQuota?
    package var timeout: Duration?
    /// Only a sandbox started for this request will do.
    package var fresh = false
    package var traceID: String?
    /// Where in which trace the caller is.
    package var trace: TraceContext?
    /// The HTTP request that it came in.
    package var http: HTTPOrigin?
    /// Which attempt of an accepted event it is, from 1.
    package var attempt: Int?
    /// Decoded JSON of `X-Amz-Client-Context`.
    package var clientContext: String?
    /// The function's ARN as the caller spelled it; what the runtime is told.
    package var functionARN: String
    package var trigger = Trigger.http
    /// Whether its caller wants to see what it printed last.
    package var wantsLogTail = false

    /// Where its caller is in which trace, by either header.
    var caller: TraceContext? { trace ?? traceID.flatMap { TraceContext(amazon: $0) } }

    /// The version or alias that the ARN ends in: `arn:aws:lambda:REGION:ACCOUNT:function:NAME:QUALIFIER`.
    package var qualifier: String? { Self.qualifier(functionARN) }

    static func qualifier(_ arn: String) -> String? {
        // Most have none, and are not to be taken apart to see that.
        guard arn.utf8.count(where: { $0 == UInt8(ascii: ":") }) > 6 else { return nil }
        return String(arn.split(separator: ":", omittingEmptySubsequences: false)[7])
    }

    package init(function: String, payload: ByteBuffer, functionARN: String) {
        self.function = function
        self.payload = payload
        self.functionARN = functionARN
    }
}

/// What called a function.
package enum Trigger: String, Sendable {
    /// Somebody who waits for the answer.
    case http
    /// An event that was accepted for later.
    case async
    case schedule
    /// An HTTP request that is the event.
    case url
}

/// What is known when a function begins to answer before it has all of its answer.
package struct AnswerStart: Sendable {
    package var requestID: String
    /// The version that answers.
    package var version: String
    package var start: StartKind
    /// The `Content-Type` that the runtime gave its answer.
    package var contentType: String?
    /// As in its result.
    package var traceID: String?
}

/// Takes an answer as it comes: called once, when a streamed answer begins, for what takes its pieces.
///
/// A piece is taken when its future completes, well or not, or at once where there is none; the function waits while
/// pieces are in hand. The result follows the last piece.
package typealias StreamReceiver = @Sendable (AnswerStart) -> @Sendable (ByteBuffer) -> EventLoopFuture<Void>?

/// What came of an invocation, with everything that its caller may want to know.
package struct InvocationResult: Sendable {
    package var requestID: String
    package var outcome: InvocationOutcome
    package var trigger = Trigger.http
    /// The version that served it.
    package var version = FunctionRecord.latest
    package var start: StartKind?
    /// Whether the answer began to come in pieces and its receiver was given them: a success carries none of it.
    package var isStreamed = false
    /// What the runtime says of an answer that came in pieces and was collected.
    package var contentType: String?
    /// From dispatch to the answer.
    package var duration: Duration = .zero
    package var initDuration: Duration?
    package var peak: Bytes?
    package var contract: Bytes?
    /// How far `memory.max` ran ahead of the contract for this call, and in how many steps.
    package var grownTo: Bytes?
    package var growthSteps = 0
    /// Amazon's header for where it is in which trace, as its function was told; the caller's own, if it sent one.
    package var traceID: String?
    /// What the invocation printed last, with the platform's START, END and REPORT lines; `nil` where nobody wants it.
    package var logTail: [UInt8]?
}

package enum InvocationOutcome: Sendable {
    case success(ByteBuffer)
    case failure(InvocationFailure)
}

/// Every way in which an invocation can fail. The first group is the function's doing and carries the error document
/// that its caller receives; the second is ours.
package enum InvocationFailure: Error, Sendable {
    /// The function raised, exited, could not be loaded or answered too much.
    case functionError(ByteBuffer)
    case outOfMemory(ByteBuffer)
    case timedOut(ByteBuffer)

    /// With its qualifier, where the caller gave one.
    case unknownFunction(String)
    /// The payload is not JSON, and the runtime wants JSON.
    case payloadNotJSON(String)
    case payloadTooLarge(limit: Bytes)
    /// A size of its own that the operator's `limits` do not allow.
    case overCeiling(what: String, wanted: String, limit: String)
    case throttled(PoolRefusal)
    case cannotStart(String)
    case shuttingDown
}
