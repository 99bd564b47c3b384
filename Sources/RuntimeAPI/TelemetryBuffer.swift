// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// What one subscriber of the Telemetry API has not been sent yet: a pure state machine, bounded, in order.
///
/// It holds twice what a batch may hold. What does not fit is dropped and counted, and the count is sent with the next
/// batch: who reads too slowly learns that, and holds up nobody.
struct TelemetryBuffer: Sendable {
    /// When a batch is sent: at so many records, so many bytes, or so long after the first of them.
    struct Limits: Sendable, Equatable {
        var maxItems = 10_000
        var maxBytes = 262_144
        var timeoutMs = 1000
    }

    struct Dropped: Sendable, Equatable {
        var records = 0
        var bytes = 0
    }

    private let limits: Limits
    private var records: [ByteBuffer] = []
    private var bytes = 0
    private var dropped = Dropped()

    init(_ limits: Limits) { self.limits = limits }

    /// What was dropped is told with the next records, and is no reason to send anything.
    var isEmpty: Bool { records.isEmpty }

    /// Whether there is enough for a batch.
    var isFull: Bool { records.count >= limits.maxItems || bytes >= limits.maxBytes }

    mutating func append(_ record: ByteBuffer) {
        let size = record.readableBytes
        guard records.count < 2 * limits.maxItems, bytes + size <= 2 * limits.maxBytes else {
            return drop(1, bytes: size)
        }
        records.append(record)
        bytes += size
    }

    /// Counts what could not be sent.
    mutating func drop(_ count: Int, bytes: Int) {
        dropped.records += count
        dropped.bytes += bytes
    }

    /// The oldest records that fit into one batch, at least one; and what was dropped since this was last asked.
    mutating func take() -> (records: [ByteBuffer], dropped: Dropped?) {
        var count = 0
        var size = 0
        for record in records.prefix(limits.maxItems) {
            guard count == 0 || size + record.readableBytes <= limits.maxBytes else { break }
            count += 1
            size += record.readableBytes
        }
        let batch = Array(records.prefix(count))
        records.removeFirst(count)
        bytes -= size
        defer { dropped = Dropped() }
        return (batch, dropped.records > 0 ? dropped : nil)
    }
}
