// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Settings

/// An answer that comes in pieces: how much of it has come, and all of it where nobody takes the pieces.
struct StreamedAnswer: Sendable {
    /// Who takes the pieces; `nil` when they are collected.
    let receiver: StreamReceiver?
    /// How large the whole answer may be, in bytes.
    let limit: Int
    /// Set when the function has begun to answer in pieces.
    var hasBegun = false
    /// The `Content-Type` that it was begun with.
    var contentType: String?
    private(set) var collected = ByteBuffer()
    private var size = 0

    init(receiver: StreamReceiver?, limits: Settings.Limits) {
        self.receiver = receiver
        limit = Int(receiver == nil ? limits.response.count : limits.responseStream.count)
    }

    /// Whether the receiver was given pieces.
    var isStreamed: Bool { hasBegun && receiver != nil }

    /// Counts a piece, and keeps it where nobody takes it; `false` when the answer is too large with it.
    mutating func take(_ part: ByteBuffer) -> Bool {
        size += part.readableBytes
        guard size <= limit else { return false }
        if receiver == nil {
            var part = part
            collected.writeBuffer(&part)
        }
        return true
    }
}
