// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Functions
import HTTP
import Linux
import NIOCore
import Synchronization
import Telemetry
import Units

/// A function's log, followed: one JSON object a line, for as long as the client stays.
struct LogStream {
    let context: GatewayContext

    func follow(_ name: String, _ request: HTTPRequest, _ responder: HTTPResponder) {
        guard context.catalog[name] != nil else {
            return responder.respond(.problem(.notFound, "FunctionNotFound", "no such function: \(name)"))
        }
        let since: String?
        let tail: Int?
        do throws(FunctionsError) {
            (since, tail) = (try Self.since(request), try Self.tail(request))
        } catch {
            return responder.respond(.problem(error.status, error.code, error.description))
        }
        let (log, pool, wanted) = (context.log, context.pool, Self.wanted(request))
        context.workers.submit { _ in
            pool.settleOutput(of: name)
            let reader = LogReader(responder)
            let choice = FunctionLog.Choice(since: since, request: wanted, tail: tail ?? 10)
            let (old, token) = log.readAndFollow(name, choice) { line in line.isOf(wanted) ? reader.take(line) : true }
            responder.onDisconnect { log.unfollow(token) }
            reader.begin(with: old)
        }
    }

    /// `request=ID`, or the beginning of an id.
    static func wanted(_ request: HTTPRequest) -> String? {
        request.query("request").flatMap { $0.isEmpty ? nil : $0 }
    }

    /// How many lines from the end; `nil` is all.
    static func tail(_ request: HTTPRequest) throws(FunctionsError) -> Int? {
        guard let text = request.query("tail") else { return nil }
        guard let count = Int(text), count >= 0 else {
            throw .invalid("tail: expected a whole number from 0, got '\(text)'")
        }
        return count
    }

    /// `since=10m` as the moment it means.
    static func since(_ request: HTTPRequest) throws(FunctionsError) -> String? {
        guard let text = request.query("since") else { return nil }
        guard let duration = Duration(text: text) else {
            throw .invalid("since: expected a duration such as '10m', got '\(text)'")
        }
        return WallClock.iso8601(WallClock.nowMs() - duration.milliseconds)
    }
}

/// Who follows a log: gets lines in the order in which they were printed, whichever threads they come from.
private final class LogReader: Sendable {
    /// Bytes that a client may be behind.
    private static let mostBehind = 1 << 20

    private struct State {
        var lines: [String] = []
        /// Of lines that wait here and of those that wait to be sent.
        var behind = 0
        /// Nothing is sent before what was printed earlier.
        var hasBegun = false
        var isCut = false
    }

    private let state = Mutex(State())
    private let responder: HTTPResponder

    init(_ responder: HTTPResponder) { self.responder = responder }

    /// `false` when it takes no more. A client that does not read is cut off: what it misses is on disk, and nothing is
    /// kept for it here.
    func take(_ line: LogLine) -> Bool {
        let text = JSONText.encode(line) + "\n"
        let (goesOn, isFirst) = state.withLock { state in
            state.behind += text.utf8.count
            state.isCut = state.isCut || state.behind > Self.mostBehind
            guard !state.isCut else { return (false, false) }
            state.lines.append(text)
            return (true, state.hasBegun && state.lines.count == 1)
        }
        if !goesOn { responder.abort() }
        // Always there, and never at once: what is written on the loop would overtake what others have left for it.
        if isFirst { responder.eventLoop.execute { self.send() } }
        return goesOn
    }

    func begin(with old: [LogLine]) {
        let text = old.map { JSONText.encode($0) + "\n" }.joined()
        responder.eventLoop.execute { [self] in
            responder.begin(.ok, headers: ["Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"])
            if !text.isEmpty { _ = responder.write(ByteBuffer(string: text)) }
            state.withLock { $0.hasBegun = true }
            send()
        }
    }

    private func send() {
        let lines = state.withLock { state in
            defer { state.lines = [] }
            return state.lines
        }
        guard !lines.isEmpty else { return }
        let text = lines.joined()
        responder.write(ByteBuffer(string: text))
            .whenComplete { [self] _ in state.withLock { $0.behind -= text.utf8.count } }
    }
}
