// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Reads one HTTP/1.1 answer from a connection that closes after it.
struct AnswerReader {
    let fd: CInt
    private let onSilence: () throws(ClientError) -> Void
    private var buffer: [UInt8] = []

    /// - Parameter onSilence: called when nothing came for as long as the socket waits; what it throws ends the reading.
    init(fd: CInt, onSilence: @escaping () throws(ClientError) -> Void) {
        self.fd = fd
        self.onSilence = onSilence
    }

    mutating func more() throws(ClientError) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe Glibc.recv(fd, &chunk, chunk.count, 0)
            if count > 0 { buffer += chunk[..<count] }
            if count >= 0 { return count > 0 }
            if errno == EAGAIN {
                try onSilence()
                continue
            }
            guard errno == EINTR else { throw .broken("error \(errno)") }
        }
    }

    /// Takes a line without its end.
    private mutating func line() throws(ClientError) -> String {
        while true {
            if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let text = buffer[..<end].filter { $0 != UInt8(ascii: "\r") }
                buffer.removeFirst(end + 1)
                return String(decoding: text, as: UTF8.self)
            }
            guard try more() else { throw .broken("the connection was closed before an answer came") }
        }
    }

    private mutating func take(_ count: Int) throws(ClientError) -> [UInt8] {
        while buffer.count < count {
            guard try more() else { throw .broken("the connection was closed in the middle of the answer") }
        }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    consuming func read(onBody: (([UInt8]) -> Void)?) throws(ClientError) -> HTTPAnswer {
        let status = try line().split(separator: " ")
        guard status.count >= 2, let code = Int(status[1]) else { throw .broken("no status line") }
        var answer = HTTPAnswer(status: code, headers: [:], body: [])
        while true {
            let line = try line()
            if line.isEmpty { break }
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { answer.headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
        }
        if code == 100 { return try self.read(onBody: onBody) }
        let sink = code < 400 ? onBody : nil
        do throws(ClientError) {
            let headers = answer.headers
            try body(headers, mayBeMissing: code == 204) { bytes in
                if let sink { sink(bytes) } else { answer.body += bytes }
            }
        } catch .broken {
            throw .brokenOff(answer.headers)
        }
        return answer
    }

    private mutating func body(
        _ headers: [String: String],
        mayBeMissing: Bool,
        _ deliver: ([UInt8]) -> Void
    ) throws(ClientError) {
        if headers["transfer-encoding"]?.lowercased() == "chunked" {
            while let size = Int(try line().prefix { $0.isHexDigit }, radix: 16), size > 0 {
                deliver(try take(size))
                _ = try line()
            }
        } else if let length = headers["content-length"].flatMap({ Int($0) }) {
            deliver(try take(length))
        } else if !mayBeMissing {
            while try more() {}
            deliver(buffer)
        }
    }
}
