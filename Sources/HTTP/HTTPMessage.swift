// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1

/// One complete request: its body has been received and is within the limit that applied to it.
package struct HTTPRequest: Sendable {
    package var method: HTTPMethod
    /// The path as it was sent, still percent-encoded, without the query.
    package var path: String
    /// The query as it was sent, without the question mark; empty when there was none.
    package var query: String
    package var headers: HTTPHeaders
    package var body: ByteBuffer
    /// Whether it came over TLS.
    package var isSecure = false

    package init(method: HTTPMethod, uri: String, headers: HTTPHeaders = [:], body: ByteBuffer = ByteBuffer()) {
        self.method = method
        self.headers = headers
        self.body = body
        if let mark = uri.utf8.firstIndex(of: UInt8(ascii: "?")) {
            path = String(uri[..<mark])
            query = String(uri[uri.index(after: mark)...])
        } else {
            path = uri
            query = ""
        }
    }

    /// The percent-decoded value of a query parameter; `nil` when it is absent or not valid UTF-8.
    package func query(_ name: String) -> String? { queries(name).first }

    /// All values of a query parameter that may be given more than once.
    package func queries(_ name: String) -> [String] {
        query.split(separator: "&")
            .compactMap { pair in
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard PercentEncoding.decode(parts[0]) == name else { return nil }
                return parts.count > 1 ? PercentEncoding.decode(parts[1]) : ""
            }
    }
}

/// One complete answer.
package struct HTTPResponse: Sendable {
    package var status: HTTPResponseStatus
    package var headers: HTTPHeaders
    package var body: ByteBuffer
    /// Whether its receiver can wait for it until it gets the answer to its next request, if it has sent that already.
    package var isAcknowledgement = false

    package init(_ status: HTTPResponseStatus, headers: HTTPHeaders = [:], body: ByteBuffer = ByteBuffer()) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// An answer that carries text or JSON.
    package init(
        _ status: HTTPResponseStatus,
        text: String,
        type: String = "application/json",
        headers: HTTPHeaders = [:]
    ) {
        self.init(status, headers: headers, body: ByteBuffer(string: text))
        self.headers.replaceOrAdd(name: "Content-Type", value: type)
    }
}
