// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials

/// Why a sandbox is shut down, in Lambda's words.
package enum ShutdownReason: String, Sendable {
    case spindown = "SPINDOWN"
    case timeout = "TIMEOUT"
    case failure = "FAILURE"
}

/// What an extension receives as the answer to its `GET /extension/event/next`.
package enum ExtensionEvent: Sendable, Equatable {
    /// Which events an extension may ask for.
    package enum Kind: String, Sendable, CaseIterable {
        case invoke = "INVOKE"
        case shutdown = "SHUTDOWN"
        /// Ours: the limits of the sandbox have changed.
        case resize = "RESIZE"
    }

    /// An invocation as extensions see it: without its payload.
    package struct Invocation: Sendable, Equatable {
        package var requestID: String
        /// Milliseconds since the epoch.
        package var deadlineMs: Int64
        package var functionARN: String
        package var traceID: String?

        package init(requestID: String, deadlineMs: Int64, functionARN: String, traceID: String? = nil) {
            self.requestID = requestID
            self.deadlineMs = deadlineMs
            self.functionARN = functionARN
            self.traceID = traceID
        }
    }

    case invoke(Invocation)
    /// - Parameter deadlineMs: when whatever is left is killed, in milliseconds since the epoch.
    case shutdown(ShutdownReason, deadlineMs: Int64)
    /// - Parameter cpuMillis: thousandths of a processor; `nil` is no limit.
    case resize(memoryMB: Int64, cpuMillis: Int64?)

    /// The document that is sent.
    package var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Encoding strings and integers cannot fail.
        let data = (try? encoder.encode(document)) ?? Data("{}".utf8)
        return String(decoding: data, as: UTF8.self)
    }

    private struct Document: Encodable {
        struct Tracing: Encodable {
            var type = "X-Amzn-Trace-Id"
            var value: String
        }

        var eventType: String
        var deadlineMs: Int64?
        var requestId: String?
        var invokedFunctionArn: String?
        var tracing: Tracing?
        var shutdownReason: String?
        var memoryMB: Int64?
        var cpuMillis: Int64?
    }

    private var document: Document {
        switch self {
        case .invoke(let invocation):
            Document(
                eventType: Kind.invoke.rawValue,
                deadlineMs: invocation.deadlineMs,
                requestId: invocation.requestID,
                invokedFunctionArn: invocation.functionARN,
                tracing: invocation.traceID.map { Document.Tracing(value: $0) }
            )
        case .shutdown(let reason, let deadlineMs):
            Document(eventType: Kind.shutdown.rawValue, deadlineMs: deadlineMs, shutdownReason: reason.rawValue)
        case .resize(let memoryMB, let cpuMillis):
            Document(eventType: Kind.resize.rawValue, memoryMB: memoryMB, cpuMillis: cpuMillis)
        }
    }
}
