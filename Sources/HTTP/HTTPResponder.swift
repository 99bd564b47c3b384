// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// The one way to answer a request, from any thread, once.
///
/// A second answer is dropped by the connection, so a timeout and a late result may race without harm.
package struct HTTPResponder: Sendable {
    let connection: NIOLoopBound<HTTPConnection>
    package let eventLoop: any EventLoop
    /// Which request of the connection this answers; an answer to an earlier one is stale.
    let sequence: UInt64

    /// Sends a complete answer.
    package func respond(_ response: HTTPResponse) {
        onLoop { $0.respond(response, to: sequence) }
    }

    /// Starts an answer of unknown length; `write` and `end` follow.
    package func begin(_ status: HTTPResponseStatus, headers: HTTPHeaders) {
        onLoop { $0.begin(status, headers: headers, to: sequence) }
    }

    /// Sends a piece of a streamed answer. The future fails when the peer has gone.
    package func write(_ bytes: ByteBuffer) -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        onLoop { $0.write(bytes, to: sequence, promise: promise) }
        return promise.futureResult
    }

    /// Finishes a streamed answer.
    package func end(trailers: HTTPHeaders? = nil) {
        onLoop { $0.end(sequence, trailers: trailers) }
    }

    /// Breaks an answer off: the connection is closed, without the last chunk of an answer that has begun.
    package func abort() {
        onLoop { $0.abort(sequence) }
    }

    /// The peer's address, without a port; `nil` for a Unix socket. On the event loop only.
    package var peerAddress: String? { connection.value.context?.channel.remoteAddress?.ipAddress }

    /// Runs `body` on the event loop if the peer disconnects before it was answered.
    package func onDisconnect(_ body: @escaping @Sendable () -> Void) {
        onLoop { $0.onDisconnect(body, of: sequence) }
    }

    private func onLoop(_ body: @escaping @Sendable (HTTPConnection) -> Void) {
        if eventLoop.inEventLoop {
            body(connection.value)
        } else {
            eventLoop.execute { body(connection.value) }
        }
    }
}
