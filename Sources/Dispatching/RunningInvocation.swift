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
    /// Why we ended its sandbox.
    private enum Cut {
        case timedOut
        /// It streamed more than this many bytes.
        case tooLarge(limit: Int)
    }

    private struct State {
        var lease: Lease?
        var began: Int64 = 0
        var cut: Cut?
        var answer: StreamedAnswer
        var usage: InvocationUsage?
        var completion: (@Sendable (InvocationResult) -> Void)?
    }

    let requestID: String
    let timeout: Duration
    private let plan: String
    private let version: String
    private let traceID: String?
    private let wantsLogTail: Bool
    /// `nil` where it is not traced.
    private let trace: InvocationTrace?
    private let group: any EventLoopGroup
    private let state: Mutex<State>

    init(
        requestID: String,
        plan: String,
        version: String,
        timeout: Duration,
        answer: StreamedAnswer,
        traceID: String?,
        wantsLogTail: Bool,
        trace: InvocationTrace? = nil,
        group: any EventLoopGroup,
        completion: @escaping @Sendable (InvocationResult) -> Void
    ) {
        self.requestID = requestID
        self.plan = plan
        self.version = version
        self.timeout = timeout
        self.traceID = traceID
        self.wantsLogTail = wantsLogTail
        self.trace = trace
        self.group = group
        state = Mutex(State(answer: answer, completion: completion))
    }

    /// The sandbox is ours from here on.
    func begin(_ lease: Lease) {
        trace?.granted(lease)
        state.withLock { state in
            state.lease = lease
            state.began = MonotonicClock.now()
        }
        let output = lease.sandbox.output
        output.begin(requestID)
        let (requestID, version) = (requestID, version)
        output.noteLater(for: requestID) { ["START RequestId: \(requestID) Version: \(version)"] }
        settleSoon(output)
        trace?.runs()
    }

    /// The deadline passed: the sandbox is ended, and its end completes the invocation.
    func timedOut() {
        let lease = state.withLock { state in
            guard state.completion != nil else { return Lease?.none }
            state.cut = state.cut ?? .timedOut
            return state.lease
        }
        lease?.sandbox.timeOut(requestID)
    }

    // MARK: An answer in pieces

    /// The function begins to answer: says who takes the pieces.
    func stream(_ head: AnswerHead) -> AnswerSink {
        let (receiver, start) = state.withLock { state in
            state.answer.hasBegun = true
            state.answer.contentType = head.contentType
            let isAwaited = state.completion != nil  // it may have timed out in this moment
            return (isAwaited ? state.answer.receiver : nil, state.lease?.start ?? .warm)
        }
        let sink = receiver?(
            AnswerStart(
                requestID: requestID,
                version: version,
                start: start,
                contentType: head.contentType,
                traceID: traceID
            )
        )
        return { [self] part in take(part) ? sink?(part) : nil }
    }

    /// Whether a piece is still wanted. Too much of an answer ends the sandbox, as a timeout does: a function that has
    /// no end is not waited for.
    private func take(_ part: ByteBuffer) -> Bool {
        let (isTaken, overrun) = state.withLock { state -> (Bool, Lease?) in
            guard state.completion != nil, state.cut == nil else { return (false, nil) }
            guard state.answer.take(part) else {
                state.cut = .tooLarge(limit: state.answer.limit)
                return (false, state.lease)
            }
            return (true, nil)
        }
        overrun?.sandbox.end(.failure, because: "another request in the same sandbox answered too much (per_sandbox)")
        return isTaken
    }

    // MARK: How it ended

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
        case .tooLarge(let limit): tooLarge(limit, peak: usage.peak)
        case .streamed(let error):
            let (answer, cut) = state.withLock { ($0.answer, $0.cut) }
            if let cut {
                self.cut(cut, peak: usage.peak)
            } else if let error {
                complete(.failure(.functionError(error.document)), status: "error", peak: usage.peak)
            } else {
                complete(.success(answer.collected), status: nil, peak: usage.peak)
            }
        }
    }

    private func exited(_ exit: SandboxExit) {
        if let cut = state.withLock({ $0.cut }) { return self.cut(cut, peak: exit.peak) }
        let (failure, status) = exit.failure(requestID)
        complete(.failure(failure), status: status, peak: exit.peak)
    }

    private func cut(_ cut: Cut, peak: Bytes?) {
        switch cut {
        case .timedOut: complete(.failure(.timedOut(timeoutDocument.json)), status: "timeout", peak: peak)
        case .tooLarge(let limit): tooLarge(limit, peak: peak)
        }
    }

    private func tooLarge(_ limit: Int, peak: Bytes?) {
        let document = ErrorDocument(
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (\(limit) bytes)."
        )
        complete(.failure(.functionError(document.json)), status: "error", peak: peak)
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
        case .unknownFunction: fail(.unknownFunction(plan))
        case .shuttingDown: fail(.shuttingDown)
        default: fail(.throttled(refusal))
        }
    }

    /// The sandbox that was started for this request ended before it asked for work.
    func initFailed(_ exit: SandboxExit) {
        trace?.refused(exit)
        var result = InvocationResult(requestID: requestID, outcome: .failure(exit.initFailure(requestID)))
        result.start = exit.startKind
        result.peak = exit.peak
        result.contract = exit.limit
        if wantsLogTail { result.logTail = Self.framed(exit, result, version) }
        finish(result)
    }

    /// What a start printed, between the lines that every request has; the last 4 KiB.
    private static func framed(_ exit: SandboxExit, _ result: InvocationResult, _ version: String) -> [UInt8] {
        let status = exit.initTimeout != nil ? "timeout" : "error"
        let start = Array("START RequestId: \(result.requestID) Version: \(version)\n".utf8)
        let end = Array("END RequestId: \(result.requestID)\n\(result.report(status: status))\n".utf8)
        var printed = exit.logTail.suffix(4096 - start.count - end.count)
        if let last = printed.last, last != UInt8(ascii: "\n") { printed.append(UInt8(ascii: "\n")) }
        return start + printed + end
    }

    func fail(_ failure: InvocationFailure) {
        trace?.refused()
        finish(InvocationResult(requestID: requestID, outcome: .failure(failure)))
    }

    // MARK: The end

    private func complete(_ outcome: InvocationOutcome, status: String?, peak: Bytes?) {
        let (lease, began, usage, isStreamed, type) = state.withLock {
            ($0.lease, $0.began, $0.usage, $0.answer.isStreamed, $0.answer.contentType)
        }
        guard let lease else { return }
        trace?.ran(lease)
        var result = InvocationResult(requestID: requestID, outcome: outcome)
        result.start = lease.start
        result.isStreamed = isStreamed
        result.contentType = isStreamed ? nil : type
        result.duration = .nanoseconds(MonotonicClock.now() - began)
        result.initDuration = lease.start == .cold ? lease.sandbox.initDuration : nil
        result.peak = peak
        result.contract = lease.contract
        if let usage, let grownTo = usage.grownTo {
            (result.grownTo, result.growthSteps) = (grownTo, usage.growthSteps)
        }
        let output = lease.sandbox.output
        output.endLine()
        lease.sandbox.telemetry.reported(result.telemetryReport(status: status))
        output.noteLater(for: requestID) { [result] in result.lastLines(status: status) }
        if wantsLogTail { result.logTail = output.tail }
        output.endLater(requestID)
        settleSoon(output)
        finish(result)
    }

    /// Its caller does not wait until its log lines are written: they are when this turn of the loop has sent what it has.
    private func settleSoon(_ output: OutputCapture) { group.any().execute { output.settle() } }

    private func finish(_ result: InvocationResult) {
        let completion = state.withLock { state in
            defer { (state.completion, state.lease) = (nil, nil) }
            return state.completion
        }
        var result = result
        (result.version, result.traceID) = (version, traceID)
        completion?(result)
    }
}
