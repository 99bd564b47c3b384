// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// Takes the body of a request as it arrives. Called on the connection's event loop, in order, and must not block it.
package protocol HTTPBodySink: Sendable {
    /// The next piece. The connection reads on while little of what it gave is still to be taken.
    ///
    /// - Returns: completes, well or not, when the piece has been taken; `nil` when it was at once.
    func receive(_ part: ByteBuffer) -> EventLoopFuture<Void>?
    /// The body has ended, with these trailers.
    func end(_ trailers: HTTPHeaders)
    /// The connection was lost before the body ended. Nothing follows.
    func broke()
}

/// Answers a request whose body it takes as it arrives; called when the head is there, on the connection's event loop.
///
/// It may answer at any time. Once the answer is complete the rest of the body is read and dropped, and the sink is told
/// nothing more.
package typealias HTTPStreamHandler = @Sendable (HTTPRequest, HTTPResponder) -> any HTTPBodySink

/// A body on its way to its sink: what was read since it was last given something, and how much it has in hand.
struct BodyFlow {
    /// A sink with this many bytes in hand is given no more until it has taken some.
    static let window = 256 << 10
    /// A small piece is counted as the smallest buffer that it may keep alive.
    private static let smallestBuffer = 4096

    /// Set when the handler has said who takes the body.
    var sink: (any HTTPBodySink)?
    private var gathered = ByteBuffer()
    private var inHand = 0

    var isFull: Bool { inHand >= Self.window }

    static func cost(_ part: ByteBuffer) -> Int { max(part.readableBytes, smallestBuffer) }

    /// Pieces of one read are given as one: a peer that writes small chunks does not make many small answers.
    mutating func gather(_ part: ByteBuffer) {
        var part = part
        if gathered.readableBytes == 0 { gathered = part } else { gathered.writeBuffer(&part) }
    }

    /// What was gathered, now in the sink's hand; `nil` when there is nothing, or nobody to take it yet.
    mutating func next() -> (any HTTPBodySink, ByteBuffer)? {
        guard let sink, gathered.readableBytes > 0 else { return nil }
        let part = gathered
        gathered = ByteBuffer()
        inHand += Self.cost(part)
        return (sink, part)
    }

    mutating func taken(_ cost: Int) { inHand -= cost }
}
