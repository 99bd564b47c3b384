// SPDX-License-Identifier: Apache-2.0

/// How a function, or an alias of it, answers at its own HTTP address (`/url/NAME/`): Lambda's `FunctionUrlConfig`.
package struct UrlRecord: Codable, Sendable, Equatable {
    package enum Access: String, Codable, Sendable {
        /// Anybody, where the operator allows that.
        case open = "NONE"
        /// Who signs the request with a key of this daemon.
        case signed = "AWS_IAM"
    }

    package enum Mode: String, Codable, Sendable {
        case buffered = "BUFFERED"
        case streamed = "RESPONSE_STREAM"
    }

    /// Which pages of other origins may use it (Fetch standard, CORS protocol).
    package struct CORS: Codable, Sendable, Equatable {
        package var allowCredentials: Bool?
        package var allowHeaders: [String]?
        package var allowMethods: [String]?
        package var allowOrigins: [String]?
        package var exposeHeaders: [String]?
        package var maxAge: Int?

        package init() {}
    }

    package var access: Access
    package var mode = Mode.buffered
    package var cors: CORS?
    /// Milliseconds since 1970.
    package var createdMs: Int64
    package var modifiedMs: Int64

    package init(access: Access, createdMs: Int64) {
        self.access = access
        self.createdMs = createdMs
        modifiedMs = createdMs
    }
}

extension UrlRecord.CORS {
    /// Whether a page of this origin may use it.
    package func allows(origin: String) -> Bool {
        (allowOrigins ?? []).contains { $0 == "*" || $0.lowercased() == origin.lowercased() }
    }

    package func allows(method: String) -> Bool { (allowMethods ?? []).contains { $0 == "*" || $0 == method } }

    package func allows(header: String) -> Bool {
        (allowHeaders ?? []).contains { $0 == "*" || $0.lowercased() == header.lowercased() }
    }
}
