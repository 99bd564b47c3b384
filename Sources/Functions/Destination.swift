// SPDX-License-Identifier: Apache-2.0
import Units

/// Where the record of an ended event goes.
package enum Destination: Sendable, Equatable, CustomStringConvertible {
    /// A function's name: the record is an event of its own.
    case function(String)
    /// An absolute path: the record becomes a line of that file.
    case file(String)
    case http(HTTPPlace)

    /// An address that is posted to.
    package struct HTTPPlace: Sendable, Equatable {
        /// A name or an address, in small letters; IPv6 without its brackets.
        package var host: String
        package var port: Int
        /// With the query, as it is sent.
        package var path: String
    }

    /// What a queue's row or a function's record says: `description` of one that was checked before.
    package var description: String {
        switch self {
        case .function(let name): name
        case .file(let path): "file://\(path)"
        case .http(let place): "http://\(place.authority)\(place.path)"
        }
    }

    /// Reads a function's name or ARN, `file:///absolute/path` or `http://host[:port]/path`.
    package init(_ text: String) throws(FunctionsError) {
        guard text.utf8.count <= 2048, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Self.wrong(text.prefix(64), "is longer than 2048 bytes or holds spaces or letters beyond ASCII")
        }
        if text.hasPrefix("file://") {
            self = .file(try Self.path(text))
        } else if text.hasPrefix("http://") {
            self = .http(try HTTPPlace(text))
        } else if text.hasPrefix("https://") {
            throw Self.wrong(text, "needs TLS, which the daemon's client does not speak; http:// goes to a proxy")
        } else {
            self = .function(try Self.name(text))
        }
    }

    private static func name(_ text: String) throws(FunctionsError) -> String {
        var name = text[...]
        if text.hasPrefix("arn:") {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count > 2, parts[2] == "lambda" else {
                let service = parts.count > 2 ? "'\(parts[2])'" : "that service"
                throw wrong(text, "is no function: \(service) is not offered as a destination")
            }
            guard parts.count >= 7, parts[5] == "function" else { throw wrong(text, "is no function's ARN") }
            name = parts[6...].joined(separator: ":")[...]
        }
        if name.hasSuffix(":$LATEST") { name = name.dropLast(":$LATEST".count) }
        do { try FunctionSpec.checkName(String(name)) } catch { throw wrong(text, "names no function") }
        return String(name)
    }

    private static func path(_ text: String) throws(FunctionsError) -> String {
        let path = text.dropFirst("file://".count)
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        guard path.hasPrefix("/"), !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." || $0.count > 255 })
        else {
            throw wrong(text, "has to be file:// and an absolute path without '.', '..' and empty parts")
        }
        return String(path)
    }

    fileprivate static func wrong(_ text: some StringProtocol, _ why: String) -> FunctionsError {
        .invalid(
            "destination '\(text)' \(why); expected a function's name or ARN, file:///absolute/path, "
                + "or http://host:port/path"
        )
    }
}

extension Destination.HTTPPlace {
    /// As it stands in a URL and in a `Host` header.
    package var authority: String {
        let host = host.contains(":") ? "[\(host)]" : host
        return port == 80 ? host : "\(host):\(port)"
    }

    fileprivate init(_ text: String) throws(FunctionsError) {
        let rest = text.dropFirst("http://".count)
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        let authority = rest[..<end].lowercased()
        var path = String(rest[end...])
        guard !authority.contains("@") else { throw Destination.wrong("http://…", "may hold no user or password") }
        guard !path.contains("#") else { throw Destination.wrong(text, "may have no fragment") }
        if !path.hasPrefix("/") { path = "/\(path)" }
        guard let (host, port) = Self.split(authority) else {
            throw Destination.wrong(text, "has no right host or port")
        }
        (self.host, self.port, self.path) = (host, port, path)
    }

    /// `host`, `host:port`, `[::1]` or `[::1]:port`.
    package static func split(_ authority: String) -> (host: String, port: Int)? {
        var (host, rest) = (authority[...], ""[...])
        if authority.hasPrefix("[") {
            guard let bracket = authority.firstIndex(of: "]") else { return nil }
            host = authority[authority.index(after: authority.startIndex)..<bracket]
            rest = authority[authority.index(after: bracket)...]
            guard host.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." }), host.contains(":") else { return nil }
        } else {
            if let colon = authority.firstIndex(of: ":") { (host, rest) = (authority[..<colon], authority[colon...]) }
            guard host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) }) else {
                return nil
            }
        }
        guard !host.isEmpty, host.count <= 253 else { return nil }
        guard !rest.isEmpty else { return (String(host), 80) }
        guard rest.hasPrefix(":"), let port = UInt16(rest.dropFirst()), port > 0 else { return nil }
        return (String(host), Int(port))
    }
}
