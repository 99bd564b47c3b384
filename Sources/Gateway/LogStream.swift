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
        let log = context.log
        context.workers.submit { _ in
            let (since, wanted) = (try? Self.since(request), Self.wanted(request))
            let old = log.read(
                name,
                since: since,
                request: wanted,
                tail: request.query("tail").flatMap { Int($0) } ?? 10
            )
            responder.begin(.ok, headers: ["Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"])
            for line in old { _ = responder.write(ByteBuffer(string: JSONText.encode(line) + "\n")) }
            let token = log.follow(name) { line in
                if line.isOf(wanted) { _ = responder.write(ByteBuffer(string: JSONText.encode(line) + "\n")) }
            }
            responder.onDisconnect { log.unfollow(token) }
        }
    }

    /// `request=ID`, or the beginning of an id.
    static func wanted(_ request: HTTPRequest) -> String? {
        request.query("request").flatMap { $0.isEmpty ? nil : $0 }
    }

    /// `since=10m` as the moment it means.
    static func since(_ request: HTTPRequest) throws(FunctionsError) -> String? {
        guard let text = request.query("since"), !text.isEmpty else { return nil }
        guard let duration = Duration(text: text) else {
            throw .invalid("since: expected a duration such as '10m', got '\(text)'")
        }
        return WallClock.iso8601(WallClock.nowMs() - duration.milliseconds)
    }
}
