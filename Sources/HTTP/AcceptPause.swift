// SPDX-License-Identifier: Apache-2.0
import Glibc
import NIOCore

/// Lets new connections wait in the kernel's backlog while a descriptor for them cannot be had.
///
/// NIO's own `AcceptBackoffHandler` delays the next read. But a listener whose `accept` failed keeps the read that it
/// has pending, is told again at once that it is readable, and its event loop takes a whole processor. Only
/// `autoRead` takes it out of what is waited for. So this handler comes first, and keeps these errors from NIO's.
final class AcceptPause: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private let pause: TimeAmount
    private var resumption: Scheduled<Void>?

    init(pause: TimeAmount = .milliseconds(100)) { self.pause = pause }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let problem = error as? IOError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(problem.errnoCode) else {
            return context.fireErrorCaught(error)
        }
        guard resumption == nil else { return }
        read(false, context)
        resumption = context.eventLoop.assumeIsolated()
            .scheduleTask(in: pause) {
                self.resumption = nil
                self.read(true, context)
            }
    }

    func channelInactive(context: ChannelHandlerContext) {
        resumption?.cancel()
        resumption = nil
        context.fireChannelInactive()
    }

    private func read(_ isOn: Bool, _ context: ChannelHandlerContext) {
        try? context.channel.syncOptions?.setOption(.autoRead, value: isOn)
    }
}
