// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import NIOCore
import Policy
import Pool
import RuntimeAPI
import Sandbox
import Settings
import Tracing
import Units

/// Takes an invocation from its request to its result: checks, lease, deadline, outcome.
package final class Dispatcher: Sendable {
    private let catalog: FunctionCatalog
    private let pool: SandboxPool
    private let group: any EventLoopGroup
    private let tracer: Tracer?
    private let clock: @Sendable () -> Int64
    private let onResult: @Sendable (_ function: String, InvocationResult) -> Void

    /// - Parameters:
    ///   - clock: milliseconds since the epoch.
    ///   - onResult: told every result of a known function, before its caller is.
    package init(
        catalog: FunctionCatalog,
        pool: SandboxPool,
        group: any EventLoopGroup,
        tracer: Tracer? = nil,
        clock: @escaping @Sendable () -> Int64,
        onResult: @escaping @Sendable (_ function: String, InvocationResult) -> Void = { _, _ in }
    ) {
        self.onResult = onResult
        self.tracer = tracer
        self.catalog = catalog
        self.pool = pool
        self.group = group
        self.clock = clock
    }

    /// Runs a request. `completion` is called once, on any thread.
    ///
    /// - Parameter stream: takes an answer that comes in pieces, up to `limits.response_stream`; without it such an answer
    ///   is collected, up to `limits.response`.
    /// - Returns: a way to withdraw while the request still waits; it does nothing once it runs.
    @discardableResult
    package func invoke(
        _ request: InvocationRequest,
        requestID: String,
        stream: StreamReceiver? = nil,
        completion: @escaping @Sendable (InvocationResult) -> Void
    ) -> @Sendable () -> Void {
        let function: DeployedFunction
        do throws(InvocationFailure) {
            function = try check(request, payload: catalog.limits.payload)
        } catch {
            var result = InvocationResult(requestID: requestID, outcome: .failure(error))
            result.traceID = request.traceID
            completion(result)
            return {}
        }
        let timeout = request.timeout ?? function.timeout.value
        let (request, trace) = traced(request, function)
        let (trigger, wantsLogTail, traceID) = (request.trigger, request.wantsLogTail, request.traceID)
        // What is kept for as long as it waits and runs: a deployed function is large.
        let (name, plan, version) = (function.name, function.planName, function.record.version)
        let completion: @Sendable (InvocationResult) -> Void = { [onResult, tracer] result in
            var result = result
            result.trigger = trigger
            let ended = trace == nil ? 0 : MonotonicClock.now()
            onResult(name, result)
            completion(result)
            if let trace { tracer?.exporter.add(trace.spans(result, ended: ended)) }
        }
        let token = pool.lease(
            plan,
            memory: request.memory,
            cpu: request.cpu,
            fresh: request.fresh,
            giveUpAfter: catalog.queueTimeout,
            label: requestID
        ) { [self] outcome in
            let invocation = RunningInvocation(
                requestID: requestID,
                plan: plan,
                version: version,
                timeout: timeout,
                answer: StreamedAnswer(receiver: stream, limits: catalog.limits),
                traceID: traceID,
                wantsLogTail: wantsLogTail,
                trace: trace,
                group: group,
                completion: completion
            )
            switch outcome {
            case .granted(let lease): run(request, invocation, on: lease)
            case .refused(let refusal): invocation.refuse(refusal)
            case .initFailed(let exit): invocation.initFailed(exit)
            case .cannotStart(let reason): invocation.fail(.cannotStart(reason))
            }
        }
        return { [pool] in pool.cancel(token) }
    }

    /// The request as the function is to see it: with the place in its trace where the function is. Where tracing is off,
    /// that is its caller's, or one that is nobody's.
    private func traced(
        _ request: InvocationRequest,
        _ function: DeployedFunction
    ) -> (InvocationRequest, InvocationTrace?) {
        var request = request
        guard let tracer, tracer.isTracing else {
            request.traceID = request.traceID ?? request.trace?.amazon ?? TraceContext.untraced(at: clock())
            return (request, nil)
        }
        request.trace = request.caller
        guard let context = tracer.begin(request.trace) else { return (request, nil) }
        let trace = context.isSampled ? InvocationTrace(context, of: request, function.name) : nil
        request.trace = trace?.runContext ?? context
        request.traceID = request.traceID ?? request.trace?.amazon
        return (request, trace)
    }

    private func run(_ request: InvocationRequest, _ invocation: RunningInvocation, on lease: Lease) {
        invocation.begin(lease)
        let deadlineMs = clock() + invocation.timeout.milliseconds
        // On the event loop that this is, if it is one: arming another's timer would have to wake it.
        let timer = group.any()
            .scheduleTask(in: .milliseconds(invocation.timeout.milliseconds)) {
                invocation.timedOut()
            }
        var event = RuntimeInvocation(
            requestID: invocation.requestID,
            deadlineMs: deadlineMs,
            functionARN: request.functionARN,
            traceID: request.traceID,
            clientContext: request.clientContext,
            payload: request.payload,
            stream: invocation.stream
        )
        if let trace = request.trace { (event.traceParent, event.traceState) = (trace.traceparent, trace.state) }
        lease.run(event) { end in
            timer.cancel()
            invocation.ended(end)
        }
    }

    // MARK: Checks, in Lambda's order

    /// - Parameter payload: how large its event may be, which depends on the kind of invocation.
    @discardableResult
    func check(_ request: InvocationRequest, payload: Bytes) throws(InvocationFailure) -> DeployedFunction {
        guard let function = catalog.resolve(request.function, request.qualifier) else {
            throw .unknownFunction(PlanName.make(request.function, version: request.qualifier))
        }
        let limits = catalog.limits
        guard request.payload.readableBytes <= payload.count else { throw .payloadTooLarge(limit: payload) }
        try ceiling("X-Fn-Memory-Mb", request.memory, limits.memory)
        try ceiling("X-Fn-Cpu-Millis", request.cpu, limits.cpus)
        if let timeout = request.timeout, timeout > limits.timeout {
            throw .overCeiling(what: "X-Fn-Timeout-Ms", wanted: timeout.text, limit: limits.timeout.text)
        }
        if function.runtime.payload == .json, let problem = JSONCheck.problem(request.payload) {
            throw .payloadNotJSON(problem)
        }
        return function
    }

    private func ceiling<Value: Comparable & CustomStringConvertible>(
        _ what: String,
        _ wanted: Value?,
        _ limit: Value
    ) throws(InvocationFailure) {
        guard let wanted, wanted > limit else { return }
        throw .overCeiling(what: what, wanted: wanted.description, limit: limit.description)
    }
}
