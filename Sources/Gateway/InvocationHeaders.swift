// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1
import Policy
import Tracing
import Units

/// A header that cannot be understood.
struct BadHeader: Error, CustomStringConvertible {
    let name: String
    let value: String
    let expected: String
    var description: String { "\(name): expected \(expected), got '\(value)'" }
}

extension InvocationRequest {
    /// Reads what both doors share: the event and the headers that size this one request.
    ///
    /// - Parameters:
    ///   - name: the function's, with or without a qualifier.
    ///   - arn: with the qualifier, as the caller spelled it.
    ///   - http: what its trace tells of the request.
    init(_ name: String, _ request: HTTPRequest, arn: String, http: HTTPOrigin?) throws(BadHeader) {
        // A caller that sends nothing means an empty event.
        let payload = request.body.readableBytes > 0 ? request.body : ByteBuffer(string: "{}")
        self.init(function: PlanName.function(name), payload: payload, functionARN: arn)
        memory = try Self.number(request, "X-Fn-Memory-Mb", 4...1_048_576).map { .mib(Int64($0)) }
        cpu = try Self.number(request, "X-Fn-Cpu-Millis", 10...1_000_000).map { CPUQuota(millis: $0) }
        timeout = try Self.number(request, "X-Fn-Timeout-Ms", 1...86_400_000).map { .milliseconds($0) }
        fresh = try Self.word(request, "X-Fn-Cold", ["0", "1"]) == "1"
        traceID = request.headers.first(name: "X-Amzn-Trace-Id")
        trace = TraceContext(request.headers)
        self.http = http
        if let context = request.headers.first(name: "X-Amz-Client-Context") {
            guard context.utf8.count <= 3583 else {
                let length = "\(context.utf8.count) of them"
                throw BadHeader(name: "X-Amz-Client-Context", value: length, expected: "at most 3583 bytes")
            }
            guard let bytes = Base64.decode(context), bytes.first == UInt8(ascii: "{"),
                JSONCheck.problem(ByteBuffer(bytes: bytes)) == nil
            else {
                throw BadHeader(name: "X-Amz-Client-Context", value: context, expected: "base64 of a JSON object")
            }
            clientContext = String(decoding: bytes, as: UTF8.self).filter { !$0.isNewline }
        }
    }

    /// One of a header's few words, in any case; `nil` when it is not there.
    static func word(_ request: HTTPRequest, _ name: String, _ words: [String]) throws(BadHeader) -> String? {
        guard let text = request.headers.first(name: name) else { return nil }
        guard let word = words.first(where: { $0.lowercased() == text.lowercased() }) else {
            throw BadHeader(name: name, value: text, expected: words.joined(separator: " or "))
        }
        return word
    }

    private static func number(
        _ request: HTTPRequest,
        _ name: String,
        _ range: ClosedRange<Int>
    ) throws(BadHeader) -> Int? {
        guard let text = request.headers.first(name: name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw BadHeader(
                name: name,
                value: text,
                expected: "a whole number from \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return value
    }
}

extension TraceContext {
    /// The caller's place, from `traceparent`; one that is there twice is none.
    init?(_ headers: HTTPHeaders) {
        guard let text = headers.first(name: "traceparent"), headers["traceparent"].count == 1 else { return nil }
        let state = headers["tracestate"]
        self.init(traceparent: text, state: state.isEmpty ? nil : state.joined(separator: ","))
    }
}

extension GatewayContext {
    /// What a trace tells of a request; `nil` where tracing is off.
    ///
    /// - Parameters:
    ///   - route: the door, as in `openapi.yaml`.
    ///   - status: what the door answers to a result; `nil` where it cannot be told any more.
    func origin(
        _ request: HTTPRequest,
        _ route: String,
        status: @escaping @Sendable (InvocationResult) -> Int?
    ) -> HTTPOrigin? {
        guard tracer.isTracing else { return nil }
        return HTTPOrigin(
            method: request.method.rawValue,
            route: route,
            path: request.path,
            scheme: request.isSecure ? "https" : "http",
            userAgent: request.headers.first(name: "User-Agent"),
            status: status
        )
    }
}
