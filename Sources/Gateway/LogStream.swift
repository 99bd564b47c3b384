// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Functions
import HTTP
import Linux
import NIOCore
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
        let log = context.log
        context.workers.submit { _ in
            let old = log.read(name, since: since, tail: tail ?? 10)
            responder.begin(.ok, headers: ["Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"])
            for line in old { _ = responder.write(ByteBuffer(string: JSONText.encode(line) + "\n")) }
            let token = log.follow(name) { line in
                _ = responder.write(ByteBuffer(string: JSONText.encode(line) + "\n"))
            }
            responder.onDisconnect { log.unfollow(token) }
        }
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
