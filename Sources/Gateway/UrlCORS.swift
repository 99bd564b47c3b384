// SPDX-License-Identifier: Apache-2.0
import Functions
import HTTP
import NIOHTTP1

/// The CORS protocol (Fetch standard, section 3.2) for a function's own address, as its configuration says.
struct UrlCORS: Sendable {
    let cors: UrlRecord.CORS
    let origin: String

    /// `nil` where nothing was said of CORS, or the request comes from no page of an origin that is allowed.
    init?(_ url: UrlRecord?, _ headers: HTTPHeaders) {
        guard let cors = url?.cors, let origin = headers.first(name: "Origin"), cors.allows(origin: origin) else {
            return nil
        }
        (self.cors, self.origin) = (cors, origin)
    }

    /// The answer to a browser's question before the request itself; `nil` when the request is not that question.
    func preflight(_ request: HTTPRequest) -> HTTPResponse? {
        guard request.method == .OPTIONS,
            let method = request.headers.first(name: "Access-Control-Request-Method")
        else { return nil }
        var headers = common
        let asked: [String] = (request.headers.first(name: "Access-Control-Request-Headers") ?? "")
            .split(separator: ",").map { String($0).filter { $0 != " " } }
        // What is not allowed is left out, and the browser keeps the request to itself.
        if cors.allows(method: method) { headers.add(name: "Access-Control-Allow-Methods", value: method) }
        let allowed = asked.filter { cors.allows(header: $0) }
        if !allowed.isEmpty {
            headers.add(name: "Access-Control-Allow-Headers", value: allowed.joined(separator: ","))
        }
        if let age = cors.maxAge { headers.add(name: "Access-Control-Max-Age", value: String(age)) }
        return HTTPResponse(.ok, headers: headers)
    }

    /// Adds what the browser wants to see; the configuration wins over what the function says itself, as in Lambda.
    func apply(to headers: inout HTTPHeaders) {
        for name in headers.map(\.name) where name.lowercased().hasPrefix("access-control-") {
            headers.remove(name: name)
        }
        headers.add(contentsOf: common)
        if let exposed = cors.exposeHeaders, !exposed.isEmpty {
            headers.add(name: "Access-Control-Expose-Headers", value: exposed.joined(separator: ","))
        }
    }

    private var common: HTTPHeaders {
        var headers: HTTPHeaders = ["Access-Control-Allow-Origin": origin, "Vary": "Origin"]
        if cors.allowCredentials == true { headers.add(name: "Access-Control-Allow-Credentials", value: "true") }
        return headers
    }
}
