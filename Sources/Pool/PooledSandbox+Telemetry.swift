// SPDX-License-Identifier: Apache-2.0
import Linux
import RuntimeAPI
import Units

/// What extensions that subscribed to telemetry are told of a sandbox's life.
extension PooledSandbox {
    func toldOfStart() {
        let duration = initDuration ?? .zero
        let extensions = server.withLock { $0 }?.extensionSummaries ?? []
        telemetry.initEnded(durationMs: Self.milliseconds(duration), extensions: extensions)
    }

    func toldOfAnswer(_ requestID: String, _ answer: RuntimeAnswer) {
        guard let began = state.withLock({ $0.current[requestID]?.began }) else { return }
        let (status, type, bytes): (TelemetryStatus, String?, Int?) =
            switch answer {
            case .response(let body): (.success, nil, body.readableBytes)
            case .streamed(nil): (.success, nil, nil)
            case .streamed(let error?): (.error, error.type, nil)
            case .error(_, let type): (.error, type, nil)
            case .tooLarge: (.error, "Function.ResponseSizeTooLarge", nil)
            }
        telemetry.runtimeDone(
            requestID,
            status,
            errorType: type,
            durationMs: Self.milliseconds(.nanoseconds(MonotonicClock.now() - began)),
            producedBytes: bytes
        )
    }

    /// The sandbox ended under an invocation, or was ended for it.
    func toldOfEnd(_ invocation: Invocation, _ report: SandboxExit) {
        let isTimeout = state.withLock { $0.hasTimedOut }
        let type = report.outOfMemory ? "Runtime.OutOfMemory" : report.fault?.type ?? "Runtime.ExitError"
        telemetry.runtimeDone(
            invocation.requestID,
            isTimeout ? .timeout : .failure,
            errorType: isTimeout ? nil : type,
            durationMs: Self.milliseconds(.nanoseconds(MonotonicClock.now() - invocation.began))
        )
    }

    /// With two decimals, as Lambda writes them.
    static func milliseconds(_ duration: Duration) -> Double { (duration.seconds * 100_000).rounded() / 100 }
}
