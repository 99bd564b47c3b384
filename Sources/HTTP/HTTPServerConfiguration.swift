// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import NIOSSL
import Synchronization

/// Everything that bounds what a peer can make the server hold or wait for.
package struct HTTPServerConfiguration: Sendable {
    /// Connections at once; one more is closed as soon as it is accepted.
    package var maxConnections = 4096
    /// The longest single header field, name and value together, in bytes.
    package var maxHeaderField = 80 * 1024
    /// All header fields of one request together, in bytes, and how many there may be.
    package var maxHeaderList = 2 << 20
    package var maxHeaderCount = 256
    /// What connections are secured with from now on; `nil` is plain HTTP.
    package var tls: (@Sendable () -> NIOSSLContext)?
    /// How long a connection may stay open without a complete request head, or with an answer that the peer does not
    /// take.
    package var idleTimeout: TimeAmount = .seconds(75)
    /// How long the body may take once its head has arrived.
    package var readTimeout: TimeAmount = .seconds(30)
    /// How many reads one turn of the event loop may make: each is up to 256 KiB that a sink is given at once.
    package var readsAtOnce: UInt = 16
    /// Who takes the body of a request with this head as it arrives; `nil` where the handler gets it whole.
    package var streamHandler: @Sendable (HTTPRequestHead) -> HTTPStreamHandler? = { _ in nil }
    /// The largest body, in bytes, that is accepted for a request with this head.
    package var bodyLimit: @Sendable (HTTPRequestHead) -> Int = { _ in 1 << 20 }
    /// What all bodies that are being received may take together, in bytes; a body that would go beyond is over its limit.
    package var bodyBudget: BodyBudget?
    /// What is answered, in place of the handler's answer, when the body is larger than that.
    package var tooLarge: @Sendable (HTTPRequestHead, Int) -> HTTPResponse = { _, limit in
        HTTPResponse(.payloadTooLarge, text: #"{"error":{"code":"PayloadTooLarge","message":"limit \#(limit) bytes"}}"#)
    }

    package init() {}
}

/// Counts what the bodies of one server's requests take while they are received.
package final class BodyBudget: Sendable {
    private let limit: @Sendable () -> Int
    private let taken = Atomic(0)

    package init(_ limit: @escaping @Sendable () -> Int) { self.limit = limit }

    /// `false` when there is not so much left; then nothing was taken.
    func take(_ count: Int) -> Bool {
        guard taken.add(count, ordering: .relaxed).newValue > limit() else { return true }
        giveBack(count)
        return false
    }

    func giveBack(_ count: Int) { taken.subtract(count, ordering: .relaxed) }
}
