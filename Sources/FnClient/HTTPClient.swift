// SPDX-License-Identifier: Apache-2.0
import Glibc

/// One answer of the daemon.
package struct HTTPAnswer: Sendable {
    package var status: Int
    /// By lower-case name.
    package var headers: [String: String]
    package var body: [UInt8]
}

/// Why a call did not come back with an answer.
package enum ClientError: Error, Equatable, CustomStringConvertible {
    case unreachable(String)
    /// It took the connection and then said nothing.
    case silent(String)
    case broken(String)
    /// The body ended before its end. With the answer's header fields, names in lower case.
    case brokenOff([String: String])
    /// What was to be sent cannot be read.
    case source(String)

    package var description: String {
        switch self {
        case .unreachable(let what): what
        case .silent(let place): "fnd at \(place) does not answer: it may hang, or be stopped"
        case .source(let what): what
        case .broken(let what): "the daemon's answer could not be read: \(what)"
        case .brokenOff: "the daemon closed the connection in the middle of its answer"
        }
    }
}

/// A blocking HTTP/1.1 client over a Unix socket or TCP: one connection for each call, nothing to start up.
package struct HTTPClient: Sendable {
    /// Where the daemon is.
    package enum Address: Sendable, Equatable {
        case unix(String)
        case tcp(host: String, port: UInt16)
    }

    package var address: Address
    package var token: String?
    /// How long it may be silent before it is asked whether it still lives.
    package var patience: Duration

    package init(_ address: Address, token: String? = nil, patience: Duration = .seconds(10)) {
        self.address = address
        self.token = token
        self.patience = patience
    }

    /// - Parameter onBody: gets the body as it comes, instead of the answer.
    package func call(
        _ method: String,
        _ path: String,
        headers: [(String, String)] = [],
        body: [UInt8] = [],
        onBody: (([UInt8]) -> Void)? = nil
    ) throws(ClientError) -> HTTPAnswer {
        let fd = try connect()
        defer { close(fd) }
        var head = "\(method) \(path) HTTP/1.1\r\nHost: \(address.host)\r\nConnection: close\r\n"
        head += "Content-Length: \(body.count)\r\n"
        if let token { head += "Authorization: Bearer \(token)\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        try send(Array((head + "\r\n").utf8) + body, to: fd, onSilence: checkLife)
        return try AnswerReader(fd: fd, onSilence: checkLife).read(onBody: onBody)
    }

    func send(_ bytes: [UInt8], to fd: CInt, onSilence: () throws(ClientError) -> Void) throws(ClientError) {
        var sent = 0
        while sent < bytes.count {
            let flags = Int32(MSG_NOSIGNAL)
            let count = unsafe bytes[sent...].withUnsafeBytes { unsafe Glibc.send(fd, $0.baseAddress, $0.count, flags) }
            // The daemon may refuse a large body before it has read all of it: its answer says why.
            if count < 0, errno == EPIPE || errno == ECONNRESET { return }
            if count < 0, errno == EAGAIN {
                try onSilence()
                continue
            }
            guard count > 0 || errno == EINTR else { throw .broken("sending failed: error \(errno)") }
            sent += max(0, count)
        }
    }
}
