// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1
import Units

/// The calls of the Lambda Runtime API, version 2018-06-01.
enum RuntimeRoute: Equatable {
    case next
    case response(requestID: String)
    case error(requestID: String)
    case initError
    /// The handshake of runtimes that are told to be restored from a snapshot.
    case restoreNext
    case restoreError
    case ping
    /// Ours: a runtime that was started ahead asks which function it is to be.
    case assignment

    /// The call that a request makes; `nil` when there is none.
    init?(_ method: HTTPMethod, _ path: String) {
        switch method {
        case .GET where path == "/2018-06-01/runtime/invocation/next": self = .next
        case .GET where path == "/2018-06-01/ping": self = .ping
        case .GET where path == "/fn/function": self = .assignment
        case .GET where path == "/2018-06-01/runtime/restore/next": self = .restoreNext
        case .POST where path == "/2018-06-01/runtime/init/error": self = .initError
        case .POST where path == "/2018-06-01/runtime/restore/error": self = .restoreError
        case .POST:
            if let id = Self.requestID(path, "/response") {
                self = .response(requestID: id)
            } else if let id = Self.requestID(path, "/error") {
                self = .error(requestID: id)
            } else {
                return nil
            }
        default: return nil
        }
    }

    /// The request id between the place of invocations and the last part of a path.
    private static func requestID(_ path: String, _ last: StaticString) -> String? {
        let id = path.between("/2018-06-01/runtime/invocation/", last)
        return id.flatMap { $0.utf8.contains(UInt8(ascii: "/")) ? nil : String($0) }
    }
}
