// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1

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
            if let id = Self.requestID(path, before: "/response") {
                self = .response(requestID: id)
            } else if let id = Self.requestID(path, before: "/error") {
                self = .error(requestID: id)
            } else {
                return nil
            }
        default: return nil
        }
    }

    /// The request id between the place of invocations and the last part of a path.
    private static func requestID(_ path: String, before last: String) -> String? {
        let place = "/2018-06-01/runtime/invocation/"
        guard path.hasPrefix(place), path.hasSuffix(last), path.utf8.count > place.utf8.count + last.utf8.count else {
            return nil
        }
        let id = path.utf8.dropFirst(place.utf8.count).dropLast(last.utf8.count)
        return id.contains(UInt8(ascii: "/")) ? nil : String(Substring(id))
    }
}
