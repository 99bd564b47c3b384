// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Pool
import Sandbox
import Units

/// What callers are told when a sandbox ends under their request: what happened, with the numbers.
extension SandboxExit {
    /// The failure of an invocation that was running, and the `Status` of its REPORT line.
    func failure(_ requestID: String) -> (InvocationFailure, status: String) {
        guard !outOfMemory else { return (.outOfMemory(outOfMemoryDocument(requestID).json), "error") }
        return (.functionError(endDocument(requestID).json), "error")
    }

    /// The failure of a request whose sandbox never got as far as asking for work.
    func initFailure(_ requestID: String) -> InvocationFailure {
        if outOfMemory { return .outOfMemory(outOfMemoryDocument(requestID).json) }
        if let initError { return .functionError(initError.document) }
        guard let initTimeout else { return .functionError(endDocument(requestID).json) }
        var document = ErrorDocument(
            "Sandbox.Timedout",
            "RequestId: \(requestID) Error: the runtime did not ask for its first event within \(initTimeout.text)"
        )
        document.timeoutMs = initTimeout.milliseconds
        document.hint =
            "the limit is defaults.init_timeout in fn.yaml; a `provided` function must call GET /2018-06-01/runtime/invocation/next, and an extension GET /2020-01-01/extension/event/next"
        return .functionError(document.json)
    }

    private func endDocument(_ requestID: String) -> ErrorDocument {
        if let fault {
            return ErrorDocument(fault.type, "RequestId: \(requestID) Error: \(fault.reason)")
        }
        return ErrorDocument("Runtime.ExitError", "RequestId: \(requestID) Error: \(cause ?? reason)")
    }

    private func outOfMemoryDocument(_ requestID: String) -> ErrorDocument {
        var document = ErrorDocument(
            "Runtime.OutOfMemory",
            "RequestId: \(requestID) Error: Runtime exited with error: signal: killed"
        )
        document.limitMB = limit.mebibytes
        document.peakMB = peak?.mebibytes
        document.hint =
            "the function used all of its memory limit of \(limit.rounded); raise it with: fn update NAME --memory SIZE"
        return document
    }

    private var reason: String {
        switch status {
        case .exited(0): "Runtime exited without providing a reason"
        case .exited(let code): "Runtime exited with error: exit status \(code)"
        case .signaled(9): "Runtime exited with error: signal: killed"
        case .signaled(let signal): "Runtime exited with error: signal: \(signal)"
        }
    }
}
