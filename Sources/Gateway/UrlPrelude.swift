// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// The head in front of a streamed HTTP answer: a JSON object, then eight zero bytes, then the body.
struct UrlPrelude: Sendable {
    enum Progress {
        case incomplete
        /// The head, and what of the body came with it.
        case complete(UrlHead, rest: ByteBuffer)
        case unusable(BadUrlAnswer)
    }

    private static let contentType = "application/vnd.awslambda.http-integration-response"
    private static let delimiter = [UInt8](repeating: 0, count: 8)
    /// Far more than the headers that any client takes.
    private static let limit = 256 << 10

    private var gathered = ByteBuffer()

    /// Whether an answer of this type begins with such a head.
    static func isAnnounced(by contentType: String) -> Bool {
        contentType.prefix { $0 != ";" }.filter { $0 != " " }.lowercased() == Self.contentType
    }

    mutating func take(_ part: ByteBuffer) -> Progress {
        var part = part
        gathered.writeBuffer(&part)
        // JSON has no zero byte: the first one is where the delimiter begins.
        guard let end = gathered.readableBytesView.firstIndex(of: 0) else {
            let isTooLong = gathered.readableBytes > Self.limit
            return isTooLong ? .unusable(BadUrlAnswer("its head is larger than \(Self.limit) bytes")) : .incomplete
        }
        let length = end - gathered.readerIndex
        guard gathered.readableBytes >= length + Self.delimiter.count else { return .incomplete }
        guard let json = gathered.readBytes(length: length), gathered.readBytes(length: 8) == Self.delimiter else {
            return .unusable(BadUrlAnswer("its head does not end with eight zero bytes"))
        }
        do throws(BadUrlAnswer) {
            return .complete(try UrlHead.parse(json), rest: gathered)
        } catch {
            return .unusable(error)
        }
    }
}
