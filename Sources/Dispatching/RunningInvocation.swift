// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOCore
import Policy
import Pool
import RuntimeAPI
import Sandbox
import Synchronization
import Units

/// One invocation from its lease to its result: measures it, words its failures, writes its log lines.
final class RunningInvocation: Sendable {
    private struct State {
        var lease: Lease?
        var began: Int64 = 0
        var hasTimedOut = false
        var usage: InvocationUsage?
        var completion: (@Sendable (InvocationResult) -> Void)?
    }

    let requestID: String
    let timeout: Duration
    private let function: DeployedFunction
    private let state: Mutex<State>

    init(
        requestID: String,
        function: DeployedFunction,
        timeout: Duration,
        completion: @escaping @Sendable (InvocationResult) -> Void
    ) {
        self.requestID = requestID
        self.function = function
        self.timeout = timeout
        state = Mutex(State(completion: completion))
    }

    /// The sandbox is ours from here on.
    func begin(_ lease: Lease) {
        state.withLock { state in
            state.lease = lease
            state.began = MonotonicClock.now()
        }
        lease.sandbox.output.begin(requestID)
        lease.sandbox.output.note("START RequestId: \(requestID) Version: \(function.record.version)")
    }

    /// The deadline passed: the sandbox is ended, and its end completes the invocation.
    func timedOut() {
        let lease = state.withLock { state in
            state.hasTimedOut = state.completion != nil
            return state.hasTimedOut ? state.lease : nil
        }
        lease?.sandbox.timeOut()
    }

    func ended(_ end: InvocationEnd) {
        switch end {
        case .answered(let answer, let usage):
            state.withLock { $0.usage = usage }
            answered(answer, usage)
        case .exited(let exit): exited(exit)
        }
    }

    private func answered(_ answer: RuntimeAnswer, _ usage: InvocationUsage) {
        switch answer {
        case .response(let body): complete(.success(body), status: nil, peak: usage.peak)
        case .error(let body, _): complete(.failure(.functionError(body)), status: "error", peak: usage.peak)
        case .tooLarge(let limit):
            let document = ErrorDocument(
                "Function.ResponseSizeTooLarge",
                "Response payload size exceeded maximum allowed payload size (\(limit) bytes)."
            )
            complete(.failure(.functionError(document.json)), status: "error", peak: usage.peak)
        }
    }

    private func exited(_ exit: SandboxExit) {
        if state.withLock({ $0.hasTimedOut }) {
            return complete(.failure(.timedOut(timeoutDocument.json)), status: "timeout", peak: exit.peak)
        }
        let (failure, status) = exit.failure(requestID)
        complete(.failure(failure), status: status, peak: exit.peak)
    }

    private var timeoutDocument: ErrorDocument {
        let seconds = (timeout.seconds * 100).rounded() / 100
        let hundredths = Int64(seconds * 100)
        let text = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
        var document = ErrorDocument(
            "Sandbox.Timedout",
            "RequestId: \(requestID) Error: Task timed out after \(text) seconds"
        )
        document.timeoutMs = timeout.milliseconds
        return document
    }

    // MARK: Without a sandbox

    func refuse(_ refusal: PoolRefusal) {
        switch refusal {
        case .unknownFunction: fail(.unknownFunction(function.planName))
        case .shuttingDown: fail(.shuttingDown)
        default: fail(.throttled(refusal))
        }
    }

    /// The sandbox that was started for this request ended before it asked for work.
    func initFailed(_ exit: SandboxExit) {
        var result = InvocationResult(requestID: requestID, outcome: .failure(exit.initFailure(requestID)))
        result.start = .cold
        result.peak = exit.peak
        result.contract = exit.limit
        result.logTail = exit.logTail
        finish(result)
    }

    func fail(_ failure: InvocationFailure) {
        finish(InvocationResult(requestID: requestID, outcome: .failure(failure)))
    }

    // MARK: The end

    private func complete(_ outcome: InvocationOutcome, status: String?, peak: Bytes?) {
        let (lease, began) = state.withLock { ($0.lease, $0.began) }
        guard let lease else { return }
        var result = InvocationResult(requestID: requestID, outcome: outcome)
        result.start = lease.start
        result.duration = .nanoseconds(MonotonicClock.now() - began)
        result.initDuration = lease.start == .cold ? lease.sandbox.initDuration : nil
        result.peak = peak
        result.contract = lease.contract
        let output = lease.sandbox.output
        if let note = result.failureNote { output.note(note) }
        output.note("END RequestId: \(requestID)")
        output.note(result.report(status: status))
        if let usage = state.withLock({ $0.usage }), let grownTo = usage.grownTo {
            (result.grownTo, result.growthSteps) = (grownTo, usage.growthSteps)
            output.note(
                "GROWN RequestId: \(requestID)\tMemory Size: \(lease.contract.mebibytes) MB\tGrown To: \(grownTo.mebibytes) MB\tSteps: \(usage.growthSteps)"
            )
        }
        result.logTail = output.tail
        output.end()
        finish(result)
    }

    private func finish(_ result: InvocationResult) {
        let completion = state.withLock { state in
            defer { state.completion = nil }
            return state.completion
        }
        var result = result
        result.version = function.record.version
        completion?(result)
    }
}
