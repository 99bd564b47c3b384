// SPDX-License-Identifier: Apache-2.0

/// Where traces are sent: an OpenTelemetry collector's address for OTLP over HTTP.
package struct Collector: Sendable, Equatable {
    package var isSecure: Bool
    /// A name or an address; IPv6 without its brackets.
    package var host: String
    package var port: Int
    package var path: String

    /// As in a `Host` header.
    package var authority: String {
        let host = host.contains(":") ? "[\(host)]" : host
        return port == (isSecure ? 443 : 80) ? host : "\(host):\(port)"
    }

    /// Reads `http://host:port`, to which `/v1/traces` is added, or an address with a path of its own. It may hold no
    /// user and password: they would be shown with the settings.
    package init?(_ text: String) {
        let isSecure = text.hasPrefix("https://")
        guard isSecure || text.hasPrefix("http://"), text.utf8.count <= 1024,
            text.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { return nil }
        let rest = text.dropFirst(isSecure ? "https://".count : "http://".count)
        let end = rest.firstIndex(of: "/") ?? rest.endIndex
        guard let (host, port) = Self.split(rest[..<end]), !rest.contains("#") else { return nil }
        self.isSecure = isSecure
        self.host = host
        self.port = port ?? (isSecure ? 443 : 80)
        let path = String(rest[end...])
        self.path = path.isEmpty || path == "/" ? "/v1/traces" : path
    }

    private static func split(_ authority: Substring) -> (host: String, port: Int?)? {
        var host = authority
        var port: Int?
        if let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") {
            guard let number = UInt16(authority[authority.index(after: colon)...]), number > 0 else { return nil }
            (host, port) = (authority[..<colon], Int(number))
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard host.contains(":"), host.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." }) else { return nil }
        } else {
            guard host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) }) else {
                return nil
            }
        }
        return host.isEmpty || host.count > 253 ? nil : (host.lowercased(), port)
    }
}
