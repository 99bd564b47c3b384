// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Testing

@testable import RuntimeAPI

@Suite("What a subscriber of telemetry has not been sent")
struct TelemetryBufferTests {
    private func buffer(items: Int = 3, bytes: Int = 100) -> TelemetryBuffer {
        TelemetryBuffer(TelemetryBuffer.Limits(maxItems: items, maxBytes: bytes, timeoutMs: 25))
    }

    private func record(_ size: Int) -> ByteBuffer { ByteBuffer(repeating: 0x61, count: size) }

    @Test("a batch is full at its number of records, or of bytes")
    func full() {
        var buffer = buffer()
        buffer.append(record(10))
        buffer.append(record(10))
        #expect(!buffer.isFull)
        buffer.append(record(10))
        #expect(buffer.isFull)
        var large = self.buffer()
        large.append(record(100))
        #expect(large.isFull)
    }

    @Test("batches are in order, and each within both bounds")
    func batches() {
        var buffer = buffer()
        for size in [60, 60, 1, 2, 3] { buffer.append(record(size)) }
        #expect(buffer.take().records.map(\.readableBytes) == [60])
        #expect(buffer.take().records.map(\.readableBytes) == [60, 1, 2])
        #expect(buffer.take().records.map(\.readableBytes) == [3])
        #expect(buffer.isEmpty)
    }

    @Test("a record that is larger than a batch may be goes alone")
    func oversized() {
        var buffer = buffer()
        buffer.append(record(150))
        buffer.append(record(1))
        #expect(buffer.take().records.map(\.readableBytes) == [150])
    }

    @Test("what does not fit is dropped, counted, and told once")
    func dropped() {
        var buffer = buffer()
        for _ in 0..<8 { buffer.append(record(10)) }
        buffer.append(record(500))
        #expect(buffer.take().dropped == TelemetryBuffer.Dropped(records: 3, bytes: 520))
        #expect(buffer.take().dropped == nil)
        #expect(buffer.isEmpty)
    }

    @Test("what was dropped is no reason by itself to send anything")
    func onlyDropped() {
        var buffer = buffer()
        buffer.drop(2, bytes: 20)
        #expect(buffer.isEmpty && !buffer.isFull)
        buffer.append(record(1))
        #expect(buffer.take().dropped == TelemetryBuffer.Dropped(records: 2, bytes: 20))
    }
}
