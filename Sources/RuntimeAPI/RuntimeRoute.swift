// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1

/// The calls of the Lambda Runtime API, version 2018-06-01.
enum RuntimeRoute: Equatable {
    case next
    case response(requestID: String)
    case error(requestID: String)
    case initError
    case ping

    /// The call that a request makes; `nil` when there is none.
    init?(_ method: HTTPMethod, _ path: String) {
        let prefix = "/2018-06-01/"
        guard path.hasPrefix(prefix) else { return nil }
        let parts = path.dropFirst(prefix.count).split(separator: "/", omittingEmptySubsequences: false)
        switch (method, parts.count) {
        case (.GET, 1) where parts[0] == "ping": self = .ping
        case (.GET, 3) where parts == ["runtime", "invocation", "next"]: self = .next
        case (.POST, 3) where parts == ["runtime", "init", "error"]: self = .initError
        case (.POST, 4) where parts[0] == "runtime" && parts[1] == "invocation" && parts[3] == "response":
            self = .response(requestID: String(parts[2]))
        case (.POST, 4) where parts[0] == "runtime" && parts[1] == "invocation" && parts[3] == "error":
            self = .error(requestID: String(parts[2]))
        default: return nil
        }
    }
}
