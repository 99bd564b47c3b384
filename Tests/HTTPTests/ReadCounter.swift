// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// Stands for the socket: counts how often the connection lets it be read.
final class ReadCounter: ChannelOutboundHandler {
    typealias OutboundIn = IOData
    var reads = 0

    func read(context: ChannelHandlerContext) { reads += 1 }
}
