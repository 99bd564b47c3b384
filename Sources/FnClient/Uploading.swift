// SPDX-License-Identifier: Apache-2.0
import Glibc

extension HTTPClient {
    /// A call whose body is made as it is sent.
    ///
    /// - Parameters:
    ///   - size: the body's, in bytes; `nil` sends it in chunks.
    ///   - body: gives the body piece by piece, until it is told `false`: there is an answer already.
    package func upload(
        _ method: String,
        _ path: String,
        size: Int64?,
        body: (_ give: ([UInt8]) throws(ClientError) -> Bool) throws(ClientError) -> Void
    ) throws(ClientError) -> HTTPAnswer {
        let fd = try connect()
        defer { close(fd) }
        var head = "\(method) \(path) HTTP/1.1\r\nHost: \(address.host)\r\nConnection: close\r\n"
        head += "Content-Type: application/x-tar\r\n"
        head += size.map { "Content-Length: \($0)\r\n" } ?? "Transfer-Encoding: chunked\r\n"
        if let token { head += "Authorization: Bearer \(token)\r\n" }
        try send(Array((head + "\r\n").utf8), to: fd, onSilence: checkLife)
        var isRefused = false
        try body { piece throws(ClientError) in
            guard !piece.isEmpty else { return true }
            var poller = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            isRefused = unsafe poll(&poller, 1, 0) > 0
            guard !isRefused else { return false }
            let framed = size == nil ? Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + [13, 10] : piece
            try send(framed, to: fd, onSilence: checkLife)
            return true
        }
        if size == nil, !isRefused { try send(Array("0\r\n\r\n".utf8), to: fd, onSilence: checkLife) }
        return try AnswerReader(fd: fd, onSilence: checkLife).read(onBody: nil)
    }
}
