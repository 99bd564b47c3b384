// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Why a text is no address of a daemon.
package enum AddressError: Error, Equatable, CustomStringConvertible {
    case notHTTP(String)
    case encrypted(String)
    case badPort(String)
    case credentials

    package var description: String {
        switch self {
        case .notHTTP(let text): "expected http://HOST:PORT, got '\(text)'"
        case .encrypted(let text): "fn speaks plain HTTP, and '\(text)' asks for TLS: use http://, or a tunnel"
        case .badPort(let text): "'\(text)' is no port: expected 1 to 65535, as in http://127.0.0.1:9000"
        case .credentials: "expected no user in http://HOST:PORT; a token goes into $FN_TOKEN"
        }
    }
}

extension HTTPClient.Address: CustomStringConvertible {
    /// Reads `http://HOST:PORT`; HOST is a name, an IPv4 address, or an IPv6 address in brackets.
    package init(url: String) throws(AddressError) {
        guard !url.hasPrefix("https://") else { throw .encrypted(url) }
        guard url.hasPrefix("http://") else { throw .notHTTP(url) }
        let authority = url.dropFirst("http://".count).prefix { $0 != "/" }
        guard !authority.contains("@") else { throw .credentials }
        var (host, rest) = (authority.prefix { $0 != ":" }, authority.drop { $0 != ":" })
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw .notHTTP(url) }
            (host, rest) = (authority[..<end].dropFirst(), authority[authority.index(after: end)...])
        }
        guard !host.isEmpty, rest.isEmpty || rest.hasPrefix(":") else { throw .notHTTP(url) }
        let digits = rest.dropFirst()
        guard let port = rest.isEmpty ? 80 : UInt16(digits), port > 0 else { throw .badPort(String(digits)) }
        self = .tcp(host: String(host), port: port)
    }

    package var description: String {
        switch self {
        case .unix(let path): path
        case .tcp: "http://\(host)"
        }
    }

    /// As the `Host` header has it: the daemon serves only names that it knows (RFC 9110, 7.2).
    var host: String {
        switch self {
        case .unix: "localhost"
        case .tcp(let host, let port): "\(host.contains(":") ? "[\(host)]" : host):\(port)"
        }
    }
}

/// Names of hosts, without the C library's resolver: that loads libraries at run time, which a static program cannot.
enum HostsFile {
    /// Addresses of a name in the form of hosts(5).
    static func addresses(of name: String, in text: String) -> [String] {
        text.split(separator: "\n")
            .map { $0.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" } }
            .filter { $0.dropFirst().contains { $0.lowercased() == name.lowercased() } }
            .map { String($0[0]) }
    }

    static func read(_ path: String = "/etc/hosts") -> String {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return "" }
        defer { close(fd) }
        var (text, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 64 << 10))
        while true {
            let count = unsafe Glibc.read(fd, &buffer, buffer.count)
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += buffer[..<count]
        }
    }
}
