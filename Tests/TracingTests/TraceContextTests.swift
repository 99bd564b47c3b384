// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Tracing

@Suite("A trace's context")
struct TraceContextTests {
    private static let trace = "0af7651916cd43dd8448eb211c80319c"
    private static let good = "00-\(trace)-b7ad6b7169203331-01"

    @Test("is read from traceparent and written as it came")
    func roundTrip() throws {
        let context = try #require(TraceContext(traceparent: Self.good, state: "rojo=00f067aa0ba902b7"))
        #expect(context.trace.text == Self.trace && context.span.text == "b7ad6b7169203331" && context.isSampled)
        #expect(context.traceparent == Self.good && context.state == "rojo=00f067aa0ba902b7")
        let unsampled = Self.good.dropLast() + "0"
        #expect(TraceContext(traceparent: String(unsampled))?.isSampled == false)
        // Other flags are nobody's yet.
        #expect(TraceContext(traceparent: String(Self.good.dropLast(2) + "ff"))?.traceparent == Self.good)
    }

    @Test("of a later version counts as far as it is known")
    func laterVersion() {
        let later = "cc" + Self.good.dropFirst(2)
        #expect(TraceContext(traceparent: later)?.traceparent == Self.good)
        #expect(TraceContext(traceparent: "\(later)-what-the-future-has")?.traceparent == Self.good)
        #expect(TraceContext(traceparent: "\(later).what-the-future-has") == nil)
    }

    @Test("that nobody traces is another one for each call, bears the time, and is not sampled")
    func untraced() throws {
        let (one, other) = (TraceContext.untraced(at: 1_700_000_000_999), TraceContext.untraced(at: 1_700_000_000_999))
        #expect(one.hasPrefix("Root=1-6553f100-") && one.hasSuffix(";Sampled=0") && one != other)
        let context = try #require(TraceContext(amazon: one))
        #expect(!context.isSampled && context.amazon == one)
    }

    @Test(
        "that is not one does not count",
        arguments: [
            "", "00", "00-\(trace)-b7ad6b7169203331", "00-\(trace)-b7ad6b7169203331-01-x",
            "00-\(trace)-b7ad6b7169203331-0g", "ff-\(trace)-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-\(trace)-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00_\(trace)-b7ad6b7169203331-01",
            "0x-\(trace)-b7ad6b7169203331-01", "00-\(trace)-b7ad6b716920333é-01",
        ]
    )
    func invalid(text: String) { #expect(TraceContext(traceparent: text) == nil) }

    @Test("passes on the leading members of a tracestate, up to 32 and 512 characters")
    func states() {
        func passed(_ state: String) -> String? { TraceContext(traceparent: Self.good, state: state)?.state }
        #expect(passed("a=1,b=2") == "a=1,b=2")
        #expect(passed("a=1,,nothing,b=2") == "a=1,b=2")
        #expect(passed("a=1\r\nX: y") == nil)
        #expect(passed("") == nil)
        let many = (0..<40).map { "k\($0)=v" }
        #expect(passed(many.joined(separator: ",")) == many.prefix(32).joined(separator: ","))
        let long = (0..<5).map { "k\($0)=\(String(repeating: "v", count: 125))" }
        #expect(passed(long.joined(separator: ",")) == long.prefix(3).joined(separator: ","))
        let full = "k=" + String(repeating: "v", count: 510)
        #expect(passed(full) == full)
        #expect(passed(full + "v") == nil)
    }

    @Test("is read from Amazon's header where that names a parent, and written as one")
    func amazon() throws {
        let text = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
        let context = try #require(TraceContext(amazon: text))
        #expect(context.traceparent == Self.good && context.amazon == text)
        #expect(
            TraceContext(amazon: "Sampled=0; Root=1-0af76519-16cd43dd8448eb211c80319c; Parent=b7ad6b7169203331")?
                .isSampled == false
        )
        for other in [
            "", "Root=1-2", "Root=1-0af76519-16cd43dd8448eb211c80319c", "Parent=b7ad6b7169203331", "Root=1-2;Parent=3",
        ] {
            #expect(TraceContext(amazon: other) == nil, "\(other)")
        }
    }
}
