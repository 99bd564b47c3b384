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
    /// Bytes that a client may be behind.
    private static let mostBehind = 1 << 20

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
        let (log, wanted) = (context.log, Self.wanted(request))
        context.workers.submit { _ in
            let old = log.read(name, since: since, request: wanted, tail: tail ?? 10)
            responder.begin(.ok, headers: ["Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"])
            for line in old { _ = responder.write(ByteBuffer(string: JSONText.encode(line) + "\n")) }
            let behind = Mutex(0)
            let token = log.follow(name) { line in
                guard line.isOf(wanted) else { return }
                let text = JSONText.encode(line) + "\n"
                // A client that does not read is cut off: what it misses is on disk, and nothing is kept for it here.
                guard
                    behind.withLock({ behind in
                        behind += text.utf8.count
                        return behind <= Self.mostBehind
                    })
                else { return responder.abort() }
                responder.write(ByteBuffer(string: text))
                    .whenComplete { _ in behind.withLock { $0 -= text.utf8.count } }
            }
            responder.onDisconnect { log.unfollow(token) }
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
