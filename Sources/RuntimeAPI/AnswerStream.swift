// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTP
import NIOCore
import NIOHTTP1

/// What is known of a streamed answer before its first byte.
package struct AnswerHead: Sendable {
    /// The `Content-Type` that the runtime gave it.
    package var contentType: String?
}

/// Takes the pieces of a streamed answer, in order, on an event loop.
///
/// - Returns: completes, well or not, when the piece has been taken; `nil` when it was at once. The function is made to
///   wait while pieces are in hand.
package typealias AnswerSink = @Sendable (ByteBuffer) -> EventLoopFuture<Void>?

/// How the body of `POST …/response` is to be read: `Lambda-Runtime-Function-Response-Mode`.
enum ResponseMode {
    case buffered
    case streaming

    /// `nil` for a word that is no mode.
    init?(_ headers: HTTPHeaders) {
        switch headers.first(name: "Lambda-Runtime-Function-Response-Mode")?.lowercased() {
        case nil, "buffered": self = .buffered
        case "streaming": self = .streaming
        default: return nil
        }
    }
}

/// An error that a runtime met after it had begun to answer, as it tells it in the trailers of its answer.
package struct MidstreamError: Sendable, Equatable {
    package var type: String
    /// The error document, as callers receive it.
    package var document: ByteBuffer

    /// `nil` when the trailers tell of none.
    init?(_ trailers: HTTPHeaders) {
        let type = trailers.first(name: "Lambda-Runtime-Function-Error-Type")
        let body = trailers.first(name: "Lambda-Runtime-Function-Error-Body")
        guard type != nil || body != nil else { return nil }
        self.type = type ?? "Runtime.Unknown"
        if let bytes = body.flatMap({ Data(base64Encoded: $0) }), !bytes.isEmpty {
            document = ByteBuffer(bytes: bytes)
        } else {
            let name = self.type.filter { $0 != "\"" && $0 != "\\" && !$0.isNewline }
            document = ByteBuffer(
                string: #"{"errorMessage":"the function failed after it had begun to answer","errorType":"\#(name)"}"#
            )
        }
    }
}

/// The body of one `POST …/response` in streaming mode.
struct StreamedBody: HTTPBodySink {
    /// Gets the pieces; `nil` where the answer was refused and its body is only read past.
    let sink: AnswerSink?
    let onEnd: @Sendable (HTTPHeaders) -> Void
    let onBreak: @Sendable () -> Void

    static let refused = StreamedBody(sink: nil, onEnd: { _ in }, onBreak: {})

    func receive(_ part: ByteBuffer) -> EventLoopFuture<Void>? { sink?(part) }
    func end(_ trailers: HTTPHeaders) { onEnd(trailers) }
    func broke() { onBreak() }
}
