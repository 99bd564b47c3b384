// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1

/// The calls of Lambda's Extensions API (2020-01-01) and Telemetry API, and those of our own process 1.
enum ExtensionRoute: Equatable {
    case register
    case next
    case initError
    case exitError
    /// A subscription to telemetry.
    case telemetry
    /// A subscription of the older Logs API.
    case olderLogs
    /// From process 1: it is about to start an extension; one has ended; the runtime has ended.
    case launched
    case extensionEnded
    case runtimeEnded

    /// The call that a request makes; `nil` when there is none.
    init?(_ method: HTTPMethod, _ path: String) {
        switch (method, path) {
        case (.POST, "/2020-01-01/extension/register"): self = .register
        case (.GET, "/2020-01-01/extension/event/next"): self = .next
        case (.POST, "/2020-01-01/extension/init/error"): self = .initError
        case (.POST, "/2020-01-01/extension/exit/error"): self = .exitError
        case (.PUT, "/2022-07-01/telemetry"): self = .telemetry
        case (.PUT, "/2020-08-15/logs"): self = .olderLogs
        case (.POST, "/fn/extension/launched"): self = .launched
        case (.POST, "/fn/extension/ended"): self = .extensionEnded
        case (.POST, "/fn/runtime/ended"): self = .runtimeEnded
        default: return nil
        }
    }
}
