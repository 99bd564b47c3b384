// SPDX-License-Identifier: Apache-2.0
import Foundation
import HTTP
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Settings
import Synchronization
import Testing

@testable import Tracing

@Suite("Exporting traces", .timeLimit(.minutes(2)))
struct SpanExporterTests {
    /// A collector that answers as it is told, one answer a request and the last for ever.
    private final class Collecting: Sendable {
        struct State {
            var answers: [HTTPResponse?]
            var bodies: [String] = []
            var headers: [HTTPHeaders] = []
        }
        let state: Mutex<State>

        init(_ answers: [HTTPResponse?]) { state = Mutex(State(answers: answers)) }

        func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
            let answer = state.withLock { state in
                state.bodies.append(String(buffer: request.body))
                state.headers.append(request.headers)
                return state.answers.count > 1 ? state.answers.removeFirst() : state.answers[0]
            }
            if let answer { responder.respond(answer) }
        }

        var requests: Int { state.withLock { $0.bodies.count } }
    }

    private struct Bench {
        var exporter: SpanExporter
        var collecting: Collecting
        var lines: LogLines
    }

    private final class LogLines: Sendable {
        let lines = Mutex<[String]>([])

        var all: [String] { lines.withLock { $0 } }
    }

    private struct Handler: LogHandler {
        let lines: LogLines
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]
        init(lines: LogLines) { self.lines = lines }
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.message)") } }
    }

    private func with(
        _ answers: [HTTPResponse?],
        headers: String? = nil,
        _ body: (Bench) async throws -> Void
    ) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let workers = NIOThreadPool(numberOfThreads: 1)
        workers.start()
        let (collecting, lines) = (Collecting(answers), LogLines())
        let server =
            try await HTTPServer.start(
                on: .tcp(host: "127.0.0.1", port: 0),
                group: group,
                configuration: HTTPServerConfiguration(),
                handler: collecting.handle
            )
            .get()
        let exporter = SpanExporter(
            workers: workers,
            group: group,
            resource: [("service.name", "ebb")],
            version: "1",
            log: Logger(label: "test") { _ in Handler(lines: lines) },
            unit: .milliseconds(20)
        )
        var settings = Settings.Tracing()
        settings.collector = Collector("http://127.0.0.1:\(server.localAddress?.port ?? 0)")
        settings.headersFile = headers
        exporter.configure(settings)
        try await body(Bench(exporter: exporter, collecting: collecting, lines: lines))
        exporter.stop(within: .seconds(1))
        server.close()
        try await workers.shutdownGracefully()
        try await group.shutdownGracefully()
    }

    private func span(_ name: String = "s") -> Span {
        let context = TraceContext(trace: TraceID(high: 1, low: 2), span: .random(), isSampled: true)
        return Span(name, context: context, parent: nil, began: 1, ended: 2)
    }

    private func until(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(2)) }
    }

    @Test("spans arrive once, written as OTLP has it, whatever is in their names")
    func arriving() async throws {
        try await with([HTTPResponse(.ok)]) { bench in
            var odd = span("quote \" back \\ tab \t bell \u{7} é \u{1F418}")
            odd.set("number", Int64.max)
            odd.set("flag", true)
            odd.set("none", String?.none)
            odd.error = "went wrong"
            bench.exporter.add([odd])
            try await until { bench.exporter.counts.exported == 1 }
            let (body, headers) = bench.collecting.state.withLock { ($0.bodies[0], $0.headers[0]) }
            #expect(headers.first(name: "Content-Type") == "application/json")
            let json = try #require(try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any])
            let resource = try #require((json["resourceSpans"] as? [[String: Any]])?.first)
            let scope = try #require((resource["scopeSpans"] as? [[String: Any]])?.first)
            let spans = try #require(scope["spans"] as? [[String: Any]])
            #expect(spans.count == 1 && spans[0]["name"] as? String == odd.name)
            #expect(spans[0]["traceId"] as? String == "00000000000000010000000000000002")
            #expect((spans[0]["status"] as? [String: Any])?["code"] as? Int == 2)
            let attributes = try #require(spans[0]["attributes"] as? [[String: Any]])
            #expect(attributes.count == 2)
            #expect((attributes[0]["value"] as? [String: Any])?["intValue"] as? String == "9223372036854775807")
        }
    }

    @Test(
        "what may go well later is tried again, and is not lost",
        arguments: [HTTPResponseStatus.tooManyRequests, .badGateway, .serviceUnavailable, .gatewayTimeout]
    )
    func retried(status: HTTPResponseStatus) async throws {
        let refusal = HTTPResponse(status, headers: ["Retry-After": "0"])
        try await with([refusal, refusal, HTTPResponse(.ok)]) { bench in
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.exported == 1 }
            #expect(bench.exporter.counts.failures == 2 && bench.collecting.requests == 3)
            #expect(bench.collecting.state.withLock { Set($0.bodies).count } == 1)
            // Told once when it begins, and once when it is over; the counts are there a moment before.
            try await until { bench.lines.all.count >= 2 }
            let lines = bench.lines.all
            #expect(lines.count == 2 && lines[0].contains("answered \(status.code)") && lines[1].contains("again"))
        }
    }

    @Test("what is refused for good, or six times, is dropped and counted, and the next is sent")
    func dropped() async throws {
        try await with([HTTPResponse(.badRequest), HTTPResponse(.ok)]) { bench in
            bench.exporter.add([span(), span()])
            try await until { bench.exporter.counts.dropped[.refused] == 2 }
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.exported == 1 }
            #expect(bench.collecting.requests == 2)
        }
        let busy = HTTPResponse(.serviceUnavailable, headers: ["Retry-After": "0"])
        try await with(Array(repeating: busy, count: 6) + [HTTPResponse(.ok)]) { bench in
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.dropped[.unreachable] == 1 }
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.exported == 1 }
            #expect(bench.exporter.counts.failures == 6)
        }
    }

    @Test("spans that a collector rejects out of many are counted as dropped", arguments: ["\"2\"", "2"])
    func partial(count: String) async throws {
        let answer = "{\"partialSuccess\":{\"rejectedSpans\":\(count),\"errorMessage\":\"too old\"}}"
        try await with([HTTPResponse(.ok, text: answer)]) { bench in
            bench.exporter.add([span(), span(), span()])
            try await until { bench.exporter.counts.exported == 1 }
            #expect(bench.exporter.counts.dropped[.refused] == 2)
            try await until { bench.lines.all.first?.contains("too old") == true }
        }
    }

    @Test(
        "with a collector that does not answer, what waits is bounded, adding does not wait, and the end comes in time"
    )
    func hanging() async throws {
        try await with([nil]) { bench in
            for _ in 0..<600 { bench.exporter.add([span()]) }
            try await until { bench.collecting.requests == 1 }
            let began = ContinuousClock.now
            for _ in 0..<20_000 { bench.exporter.add([span()]) }
            #expect(ContinuousClock.now - began < .seconds(5))
            let dropped = bench.exporter.counts.dropped[.full] ?? 0
            // All but what the queue takes, and the batch that is under way.
            #expect(dropped >= 20_600 - 8192 - 512 && dropped < 20_600 - 512)
            bench.exporter.stop(within: .seconds(1))
            #expect(ContinuousClock.now - began < .seconds(30))
            #expect(bench.exporter.counts.dropped.values.reduce(0, +) == 20_600)
            bench.exporter.add([span()])
            #expect(bench.exporter.counts.dropped.values.reduce(0, +) == 20_600)
        }
    }

    @Test("at the end, what waits is sent, also what waited to be tried again")
    func flushed() async throws {
        try await with([HTTPResponse(.ok)]) { bench in
            for _ in 0..<1500 { bench.exporter.add([span()]) }
            bench.exporter.stop(within: .seconds(20))
            #expect(bench.exporter.counts.exported == 1500)
        }
        let later = HTTPResponse(.serviceUnavailable, headers: ["Retry-After": "30"])
        try await with([later, HTTPResponse(.ok)]) { bench in
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.failures == 1 }
            bench.exporter.stop(within: .seconds(20))
            #expect(bench.exporter.counts.exported == 1)
        }
    }

    @Test("without a collector nothing is kept")
    func off() async throws {
        try await with([HTTPResponse(.ok)]) { bench in
            bench.exporter.configure(Settings.Tracing())
            bench.exporter.add([span()])
            bench.exporter.stop(within: .seconds(1))
            #expect(bench.collecting.requests == 0)
        }
    }

    @Test("the collector's header fields are sent, and stand in no log")
    func headerFields() async throws {
        let path = "/tmp/ebb-headers-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "# key\nX-Api-Key: s3cret\r\n\nX-Other:v\n".write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        try await with([HTTPResponse(.ok)], headers: path) { bench in
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.exported == 1 }
            let headers = bench.collecting.state.withLock { $0.headers[0] }
            #expect(headers.first(name: "X-Api-Key") == "s3cret" && headers.first(name: "X-Other") == "v")
            try "X-Api-Key s3cret".write(toFile: path, atomically: false, encoding: .utf8)
            bench.exporter.add([span()])
            try await until { bench.exporter.counts.failures > 0 }
            try await until { bench.lines.all.contains { $0.contains("line 1: expected 'Name: value'") } }
            #expect(!bench.lines.all.contains { $0.contains("s3cret") })
        }
    }

    @Test("header fields are one a line, and nothing else", arguments: ["X y: z", ": z", "X", "X: \u{7}", "X: é"])
    func wrongFields(text: String) {
        #expect(throws: CollectorHeaders.Problem.self) { try CollectorHeaders("A: b\n\(text)") }
    }
}

@Suite("Sampling")
struct SamplingTests {
    private func tracer(_ sample: Double, collector: String? = "http://127.0.0.1:1") async throws -> Tracer {
        let group = NIOSingletons.posixEventLoopGroup
        let exporter = SpanExporter(
            workers: .singleton,
            group: group,
            resource: [],
            version: "1",
            log: Logger(label: "test")
        )
        let tracer = Tracer(exporter)
        var settings = Settings.Tracing()
        settings.collector = collector.flatMap { Collector($0) }
        settings.sample = sample
        tracer.configure(settings)
        return tracer
    }

    @Test("where the caller has not decided, the share of traces is what is set", arguments: [0, 0.1, 0.5, 1])
    func share(sample: Double) async throws {
        let tracer = try await tracer(sample)
        let sampled = (0..<10_000).count { _ in tracer.begin(nil)?.isSampled == true }
        #expect(abs(Double(sampled) - sample * 10_000) <= (sample == 0 || sample == 1 ? 0 : 400))
    }

    @Test("what the caller has decided holds, in the caller's trace and in a place of its own")
    func callers() async throws {
        let caller = try #require(
            TraceContext(traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state: "a=b")
        )
        let inside = try #require(try await tracer(0).begin(caller))
        #expect(inside.trace == caller.trace && inside.isSampled && inside.span != caller.span && inside.state == "a=b")
        var unsampled = caller
        unsampled.isSampled = false
        #expect(try await tracer(1).begin(unsampled)?.isSampled == false)
    }

    @Test("without a collector nothing begins")
    func off() async throws { #expect(try await tracer(1, collector: nil).begin(nil) == nil) }
}
