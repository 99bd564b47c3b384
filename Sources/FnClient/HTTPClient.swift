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
    case broken(String)

    package var description: String {
        switch self {
        case .unreachable(let what): what
        case .broken(let what): "the daemon's answer could not be read: \(what)"
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

    package init(_ address: Address, token: String? = nil) {
        self.address = address
        self.token = token
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
        var head =
            "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\nContent-Length: \(body.count)\r\n"
        if let token { head += "Authorization: Bearer \(token)\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        try send(Array((head + "\r\n").utf8) + body, to: fd)
        return try AnswerReader(fd: fd).read(onBody: onBody)
    }

    /// As the daemon's guard against foreign web pages wants it: the address that is connected to.
    private var host: String {
        switch address {
        case .unix: "localhost"
        case .tcp(let host, let port): "\(host):\(port)"
        }
    }

    private func send(_ bytes: [UInt8], to fd: CInt) throws(ClientError) {
        var sent = 0
        while sent < bytes.count {
            let flags = Int32(MSG_NOSIGNAL)
            let count = unsafe bytes[sent...].withUnsafeBytes { unsafe Glibc.send(fd, $0.baseAddress, $0.count, flags) }
            // The daemon may refuse a large body before it has read all of it: its answer says why.
            if count < 0, errno == EPIPE || errno == ECONNRESET { return }
            guard count > 0 || errno == EINTR else { throw .broken("sending failed: error \(errno)") }
            sent += max(0, count)
        }
    }

    private func connect() throws(ClientError) -> CInt {
        switch address {
        case .unix(let path): try connect(unix: path)
        case .tcp(let host, let port): try connect(host, port)
        }
    }

    private func connect(unix path: String) throws(ClientError) -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < 107 else { throw .unreachable("the socket's path is too long: \(path)") }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe Glibc.connect(fd, $0, size) }
        }
        guard result == 0 else {
            let reason = unsafe String(cString: strerror(errno))
            close(fd)
            throw .unreachable(
                "fnd is not reachable at \(path): \(reason). Start it with `fnd`, or name another with --url or $FN_URL."
            )
        }
        return fd
    }

    private func connect(_ host: String, _ port: UInt16) throws(ClientError) -> CInt {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        let name = host == "localhost" ? "127.0.0.1" : host
        guard unsafe inet_pton(AF_INET, name, &address.sin_addr) == 1 else {
            throw .unreachable("'\(host)' is no IPv4 address; use for example http://127.0.0.1:9000")
        }
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe Glibc.connect(fd, $0, size) }
        }
        guard result == 0 else {
            let reason = unsafe String(cString: strerror(errno))
            close(fd)
            throw .unreachable("fnd is not reachable at http://\(host):\(port): \(reason)")
        }
        return fd
    }
}
