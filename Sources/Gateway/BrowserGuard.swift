// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOHTTP1

/// Keeps other people's web pages out: a browser on this machine can reach loopback, and so can what it shows.
///
/// A page of another origin may send requests without asking, and a name that its owner points at 127.0.0.1 makes it
/// the same origin. So the name in `Host` must be an address, `localhost`, or one that the operator knows; and an
/// `Origin` must be that host. Clients other than browsers send no `Origin` and name the host that they connect to.
enum BrowserGuard {
    /// - Parameters:
    ///   - hosts: further names, comma-separated; `*` for any.
    ///   - isAllowed: whether the page's origin was allowed for what is asked.
    /// - Returns: what is wrong with where the request says it comes from.
    static func problem(
        _ headers: HTTPHeaders,
        hosts: @autoclosure () -> String,
        isAllowed: @autoclosure () -> Bool = false
    ) -> String? {
        guard let host = headers.first(name: "Host"), !host.isEmpty else { return nil }
        let name = withoutPort(host)
        guard isAddress(name) || name == "localhost" || name.hasSuffix(".localhost") || isListed(name, hosts()) else {
            return "this daemon does not answer to the name '\(name)': add it to http.hosts in fn.yaml"
        }
        guard let origin = headers.first(name: "Origin") else { return nil }
        let isOwn = origin == "http://\(host)" || origin == "https://\(host)"
        return isOwn || isAllowed() ? nil : "a page of '\(origin)' may not use this daemon"
    }

    private static func withoutPort(_ host: String) -> String {
        guard let colon = host.utf8.lastIndex(of: UInt8(ascii: ":")), host.utf8.last != UInt8(ascii: "]") else {
            return host.lowercased()
        }
        return host[..<colon].lowercased()
    }

    private static func isAddress(_ name: String) -> Bool {
        if name.hasPrefix("[") { return name.hasSuffix("]") }
        // By hand: every request names its host.
        var (parts, digits, value) = (1, 0, 0)
        for byte in name.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                (digits, value) = (digits + 1, min(value * 10 + Int(byte - UInt8(ascii: "0")), 256))
                guard value < 256 else { return false }
            case UInt8(ascii: "."):
                guard digits > 0 else { return false }
                (parts, digits, value) = (parts + 1, 0, 0)
            default: return false
            }
        }
        return parts == 4 && digits > 0
    }

    private static func isListed(_ name: String, _ hosts: String) -> Bool {
        hosts.split(separator: ",")
            .contains { word in
                let word = word.filter { $0 != " " }.lowercased()
                return word == "*" || word == name
            }
    }
}
