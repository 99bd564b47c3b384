// SPDX-License-Identifier: Apache-2.0
import Glibc

extension HTTPClient {
    /// A connected socket on which no call blocks for longer than the client's patience.
    func connect() throws(ClientError) -> CInt {
        switch address {
        case .unix(let path): return try connect(unix: path)
        case .tcp(let host, let port):
            var reason = ClientError.unreachable("")
            for text in try addresses(of: host) {
                do throws(ClientError) {
                    return try text.contains(":") ? connect(v6: text, port) : connect(v4: text, port)
                } catch {
                    reason = error
                }
            }
            throw reason
        }
    }

    private func addresses(of host: String) throws(ClientError) -> [String] {
        var (v4, v6) = (in_addr(), in6_addr())
        if unsafe inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, host, &v6) == 1 { return [host] }
        let known = HostsFile.addresses(of: host, in: HostsFile.read())
        if !known.isEmpty { return known }
        guard host == "localhost" else {
            throw .unreachable("'\(host)' is not in /etc/hosts, and fn does not ask DNS: use its address")
        }
        return ["127.0.0.1", "::1"]
    }

    private func connect(unix path: String) throws(ClientError) -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < 107 else { throw .unreachable("the socket's path is too long: \(path)") }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        return try connect(AF_UNIX, address, hint: ". Start it with `fnd`, or name another with --url or $FN_URL.")
    }

    private func connect(v4 text: String, _ port: UInt16) throws(ClientError) -> CInt {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        _ = unsafe inet_pton(AF_INET, text, &address.sin_addr)
        return try connect(AF_INET, address)
    }

    private func connect(v6 text: String, _ port: UInt16) throws(ClientError) -> CInt {
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        _ = unsafe inet_pton(AF_INET6, text, &address.sin6_addr)
        return try connect(AF_INET6, address)
    }

    private func connect<Name>(_ family: CInt, _ name: Name, hint: String = "") throws(ClientError) -> CInt {
        let fd = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else {
            throw .unreachable("fnd is not reachable at \(address): \(unsafe String(cString: strerror(errno)))")
        }
        var time = timeval(
            tv_sec: Int(patience.components.seconds),
            tv_usec: Int(patience.components.attoseconds / 1_000_000_000_000)
        )
        let length = socklen_t(MemoryLayout<timeval>.size)
        // Sending's holds for connecting too (socket(7), SO_SNDTIMEO).
        unsafe setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, length)
        unsafe setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, length)
        let result = unsafe withUnsafePointer(to: name) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(fd, $0, socklen_t(MemoryLayout<Name>.size))
            }
        }
        guard result != 0 else { return fd }
        let error = errno
        close(fd)
        guard error != EAGAIN, error != EINPROGRESS else { throw .silent(place) }
        throw .unreachable(
            "fnd is not reachable at \(address): \(unsafe String(cString: strerror(error)))\(hint)"
        )
    }

    private var place: String { address.description }

    // MARK: Silence

    /// Called when nothing has come for as long as the client's patience: a long call is waited for, a daemon that does
    /// not even answer that it lives is not.
    func checkLife() throws(ClientError) {
        let fd: CInt
        do throws(ClientError) {
            fd = try connect()
        } catch .unreachable {
            // It takes no new connections, as when it is stopping; the one that waits would have been closed with it.
            return
        }
        defer { close(fd) }
        let silence = ClientError.silent(place)
        let question = "GET /healthz HTTP/1.1\r\nHost: \(address.host)\r\nConnection: close\r\n\r\n"
        try send(Array(question.utf8), to: fd) { () throws(ClientError) in throw silence }
        var reader = AnswerReader(fd: fd) { () throws(ClientError) in throw silence }
        _ = try reader.more()
    }
}
