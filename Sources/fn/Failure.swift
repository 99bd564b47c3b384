// SPDX-License-Identifier: Apache-2.0
import FnClient
import FnProtocol
import Glibc

/// An end with a message on standard error and one of the documented exit codes.
struct Failure: Error {
    let code: Int32
    var message: String
    init(_ code: Exit, _ message: String) { (self.code, self.message) = (code.rawValue, message) }
}

/// The exit codes that scripts may rely on.
enum Exit: Int32 {
    case failed = 1
    case found = 2
    case usage = 64
    case notFound = 66
    case unreachable = 69
    case throttled = 75
    case notAllowed = 77
    case config = 78
    case functionError = 100
    case timedOut = 124
    case outOfMemory = 137

    /// What an HTTP status of the daemon means for the caller.
    init(status: Int) {
        self =
            switch status {
            case 400: .usage
            case 401, 403: .notAllowed
            case 404: .notFound
            case 422: .config
            case 429: .throttled
            default: .failed
            }
    }

    /// What a status means that carries `X-Fn-Error`: the function's own failure, not ours nor a proxy's.
    init(functionStatus status: Int) {
        self =
            switch status {
            case 504: .timedOut
            case 507: .outOfMemory
            default: .functionError
            }
    }
}

/// C's `exit`, which argument-parser's commands hide behind a method of the same name.
func endProgram(_ code: Int32) -> Never { exit(code) }

extension HTTPAnswer {
    /// The daemon's error document; `nil` when the answer is none of its.
    var error: ErrorBody.Detail? { (try? JSONText.decode(ErrorBody.self, from: body))?.error }
}
