// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// What a runtime receives as the answer to its `GET /runtime/invocation/next`.
package struct RuntimeInvocation: Sendable {
    /// A UUID; the runtime names it in the path of its answer.
    package var requestID: String
    /// When the invocation times out, in milliseconds since the epoch.
    package var deadlineMs: Int64
    package var functionARN: String
    package var traceID: String?
    /// W3C Trace Context: a `traceparent` and a `tracestate`.
    package var traceParent: String?
    package var traceState: String?
    /// Decoded JSON, not base64.
    package var clientContext: String?
    package var payload: ByteBuffer
    /// Called when the runtime begins to stream its answer: says who takes the pieces.
    package var stream: @Sendable (AnswerHead) -> AnswerSink

    package init(
        requestID: String,
        deadlineMs: Int64,
        functionARN: String,
        traceID: String? = nil,
        clientContext: String? = nil,
        payload: ByteBuffer,
        stream: @escaping @Sendable (AnswerHead) -> AnswerSink
    ) {
        self.requestID = requestID
        self.deadlineMs = deadlineMs
        self.functionARN = functionARN
        self.traceID = traceID
        self.clientContext = clientContext
        self.payload = payload
        self.stream = stream
    }
}

/// What a runtime told about an invocation.
package enum RuntimeAnswer: Sendable {
    /// `POST …/response`: the function's answer, byte for byte.
    case response(ByteBuffer)
    /// `POST …/response` in pieces, which the invocation's sink was given; with what went wrong after the first of them.
    case streamed(MidstreamError?)
    /// `POST …/error`: the runtime's error document, and the type it named in a header, if it did.
    case error(ByteBuffer, type: String?)
    /// The answer was larger than `limit` bytes and was not kept.
    case tooLarge(limit: Int)
}

/// What happens in a session, told to its owner in order.
package enum RuntimeEvent: Sendable {
    /// The runtime asks for work, and every extension has: after the start and after each invocation. `isRepeated` when
    /// the runtime had asked before and was given none: after a hint or a lost connection.
    case waiting(isRepeated: Bool)
    /// The runtime was started ahead and is ready to become a function's.
    case unassigned
    /// The answer to the invocation with this request id.
    case answered(requestID: String, RuntimeAnswer)
    /// The connection was lost in the middle of a streamed answer, and the process has had time to end since.
    case brokeOff(requestID: String)
    /// `POST /runtime/init/error`: the runtime could not start; it will exit.
    case initFailed(ByteBuffer, type: String?)
    /// An extension that had registered has ended or given up: the sandbox ends with it.
    case extensionFailed(type: String, _ reason: String)
    /// The runtime's process has ended, and extensions still live. 128 + N when signal N killed it.
    case runtimeEnded(status: Int32)
    /// All that were told of the end have done what they wanted.
    case extensionsDone
}
