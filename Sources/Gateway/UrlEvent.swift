// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import HTTP
import Linux
import NIOCore
import NIOHTTP1

/// The event that an HTTP request becomes: Lambda's function-URL payload, format 2.0. Members are named as there.
struct UrlEvent: Encodable {
    struct Context: Encodable {
        struct HTTP: Encodable {
            var method: String
            var path: String
            var `protocol` = "HTTP/1.1"
            var sourceIp: String
            var userAgent: String
        }

        var accountId = FunctionReference.account
        var apiId: String
        var domainName: String
        var domainPrefix: String
        var http: HTTP
        var requestId: String
        var routeKey = "$default"
        var stage = "$default"
        var time: String
        var timeEpoch: Int64
    }

    var version = "2.0"
    var routeKey = "$default"
    /// As it was sent, still percent-encoded.
    var rawPath: String
    var rawQueryString: String
    var cookies: [String]?
    var headers: [String: String]
    var queryStringParameters: [String: String]?
    var requestContext: Context
    var body: String?
    var isBase64Encoded = false

    var json: ByteBuffer { ByteBuffer(string: JSONText.encode(self)) }

    /// - Parameters:
    ///   - path: what follows the function's name, with the slash that it begins with.
    ///   - peer: the client's address; `nil` for a Unix socket, which is this machine.
    init(_ name: String, _ path: String, _ request: HTTPRequest, peer: String?, requestID: String, nowMs: Int64) {
        rawPath = path
        rawQueryString = request.query
        headers = Self.joined(request.headers.map { ($0.name.lowercased(), $0.value) })
        // As Lambda's own front adds them: frameworks find in them who asked, and by which address.
        let (client, host) = (peer ?? "127.0.0.1", request.headers.first(name: "Host") ?? "localhost")
        headers["x-forwarded-for"] = headers["x-forwarded-for"].map { "\($0), \(client)" } ?? client
        headers["x-forwarded-proto"] = headers["x-forwarded-proto"] ?? (request.isSecure ? "https" : "http")
        let port = host.split(separator: ":").dropFirst().last.flatMap { UInt16($0) } ?? (request.isSecure ? 443 : 80)
        headers["x-forwarded-port"] = headers["x-forwarded-port"] ?? String(port)
        let cookies = request.headers["Cookie"].flatMap { $0.split(separator: ";") }.map { Self.trimmed($0) }
        self.cookies = cookies.isEmpty ? nil : cookies
        queryStringParameters = Self.parameters(request.query)
        let domain = String(host.prefix { $0 != ":" })
        requestContext = Context(
            apiId: name,
            domainName: domain,
            domainPrefix: String(domain.prefix { $0 != "." }),
            http: Context.HTTP(
                method: request.method.rawValue,
                path: path,
                sourceIp: peer ?? "127.0.0.1",
                userAgent: request.headers.first(name: "User-Agent") ?? ""
            ),
            requestId: requestID,
            time: Self.logTime(nowMs),
            timeEpoch: nowMs
        )
        guard request.body.readableBytes > 0 else { return }
        if Self.isText(request.headers.first(name: "Content-Type")), let text = Self.text(request.body) {
            body = text
        } else {
            (body, isBase64Encoded) = (Base64.encode(Array(request.body.readableBytesView)), true)
        }
    }

    private static func joined(_ pairs: [(String, String)]) -> [String: String] {
        Dictionary(pairs) { "\($0),\($1)" }
    }

    private static func parameters(_ query: String) -> [String: String]? {
        guard !query.isEmpty else { return nil }
        // What cannot be decoded is left as it was sent; `rawQueryString` has all of it.
        func decode(_ text: Substring) -> String {
            let spaced = String(text.map { $0 == "+" ? " " : $0 })
            return PercentEncoding.decode(spaced) ?? String(text)
        }
        let pairs = query.split(separator: "&")
            .map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return (decode(parts[0]), parts.count > 1 ? decode(parts[1]) : "")
            }
        return joined(pairs)
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// What Lambda passes as text; a form is none of it.
    private static func isText(_ contentType: String?) -> Bool {
        guard let type = contentType?.prefix(while: { $0 != ";" }).filter({ $0 != " " }).lowercased() else {
            return false
        }
        return type.hasPrefix("text/") || type.hasSuffix("+json") || type.hasSuffix("+xml")
            || ["application/json", "application/xml", "application/javascript"].contains(type)
    }

    private static func text(_ body: ByteBuffer) -> String? {
        String(validating: body.readableBytesView, as: UTF8.self)
    }

    /// `23/Nov/2026:19:17:00 +0000`, as web servers log it.
    private static func logTime(_ ms: Int64) -> String {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let parts = WallClock.iso8601(ms).split { "-T.".contains($0) }
        let month = months[((Int(parts[1]) ?? 1) - 1) % 12]
        return "\(parts[2])/\(month)/\(parts[0]):\(parts[3]) +0000"
    }
}
