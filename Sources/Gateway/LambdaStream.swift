// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1

/// `InvokeWithResponseStream` of a function that streams: each piece becomes an event-stream message when it comes.
struct LambdaStream: Sendable {
    let responder: HTTPResponder

    static let contentType = "application/vnd.amazon.eventstream"

    var receiver: StreamReceiver { { begin($0) } }

    private func begin(_ start: AnswerStart) -> @Sendable (ByteBuffer) -> EventLoopFuture<Void>? {
        var headers: HTTPHeaders = [
            "Content-Type": Self.contentType, "Transfer-Encoding": "chunked",
            "x-amzn-RequestId": start.requestID, "X-Amz-Executed-Version": start.version,
        ]
        if let trace = start.traceID { headers.add(name: "X-Amzn-Trace-Id", value: trace) }
        responder.begin(.ok, headers: headers)
        return { responder.write(EventStreamMessage.chunk($0)) }
    }

    /// What went wrong after the first piece is told in the last message: the status has been sent.
    func end(_ result: InvocationResult) {
        let log = result.logTail.map { Base64.encode($0) }
        let details =
            switch result.outcome {
            case .success: String?.none
            case .failure(.functionError(let document)), .failure(.outOfMemory(let document)),
                .failure(.timedOut(let document)):
                String(buffer: document)
            case .failure(let failure): "\(failure)"
            }
        _ = responder.write(EventStreamMessage.end(error: details, log: log))
        responder.end()
    }
}
