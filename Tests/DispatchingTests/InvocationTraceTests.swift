// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOCore
import Testing
import Tracing

@testable import Dispatching

@Suite("An invocation's trace")
struct InvocationTraceTests {
    private func request(_ body: (inout InvocationRequest) -> Void = { _ in }) -> InvocationRequest {
        var request = InvocationRequest(function: "f", payload: ByteBuffer(), functionARN: "arn")
        body(&request)
        return request
    }

    private let context = TraceContext(trace: TraceID(high: 1, low: 2), span: SpanID(3), isSampled: true, state: "a=b")

    private func spans(_ outcome: InvocationOutcome, _ trace: InvocationTrace) -> [Span] {
        trace.spans(InvocationResult(requestID: "id", outcome: outcome), ended: MonotonicClock.now())
    }

    @Test("of a request that got no sandbox is its wait, with why")
    func refused() throws {
        let trace = InvocationTrace(context, of: request { $0.trigger = .schedule }, "f")
        trace.refused()
        let spans = spans(.failure(.throttled(.concurrency(limit: 4))), trace)
        #expect(spans.map(\.name) == ["invoke f", "queue"])
        #expect(spans[0].context == context && spans[1].parent == context.span)
        #expect(spans[0].error?.contains("all 4 sandboxes") == true && spans[1].error == nil)
        #expect(spans[0].attributes.contains { $0.name == "faas.trigger" && $0.value == .text("timer") })
        #expect(spans[0].kind == .server && spans[0].parent == nil)
    }

    @Test("goes on with the caller's, whichever header names it; traceparent before Amazon's")
    func callers() throws {
        let amazon = "Root=1-00000000-000000010000000000000002;Parent=0000000000000007;Sampled=1"
        #expect(request { $0.traceID = amazon }.caller?.span == SpanID(7))
        let both = request {
            $0.traceID = amazon
            $0.trace = context
        }
        #expect(both.caller == context)
        #expect(request { $0.traceID = "Root=1-2" }.caller == nil)
        let trace = InvocationTrace(context, of: both, "f")
        #expect(spans(.success(ByteBuffer()), trace)[0].parent == SpanID(3))
        #expect(trace.runContext.trace == context.trace && trace.runContext.span != context.span)
        #expect(trace.runContext.state == "a=b")
    }

    @Test("says of a failure what kind it is, and nothing that the function said")
    func failures() {
        let secret = ByteBuffer(string: "{\"errorMessage\":\"hunter2\"}")
        let failures: [(InvocationFailure, String?, String)] = [
            (.functionError(secret), "the function raised an error", "function_error"),
            (.outOfMemory(secret), "the function ran out of memory", "oom"),
            (.timedOut(secret), "the function timed out", "timeout"),
            (.cannotStart("no root image"), "no root image", "internal"),
            (.payloadNotJSON("x"), nil, "invalid"),
        ]
        for (failure, error, word) in failures {
            let outcome = InvocationOutcome.failure(failure)
            #expect(outcome.error == error && outcome.word == word)
        }
        #expect(InvocationOutcome.success(secret).error == nil)
    }
}
