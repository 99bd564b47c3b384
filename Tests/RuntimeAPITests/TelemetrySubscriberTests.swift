// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOPosix
import Testing

@testable import RuntimeAPI

@Suite("A subscriber of telemetry")
struct TelemetrySubscriberTests {
    private func subscriber() -> TelemetrySubscriber {
        TelemetrySubscriber(
            types: [.function],
            limits: TelemetryBuffer.Limits(),
            destination: .tcp(port: 1),
            loop: MultiThreadedEventLoopGroup.singleton.next(),
            connect: { _, body in body(.failure(ChannelError.eof)) },
            isAsleep: { false },
            now: { "" }
        )
    }

    @Test("nobody waits for one that is closed, or closed meanwhile")
    func closed() throws {
        let closed = subscriber()
        closed.close()
        try closed.flush().wait()
        let sending = subscriber()
        sending.append(ByteBuffer(string: "x"))
        let flush = sending.flush()
        sending.close()
        try flush.wait()
    }
}
