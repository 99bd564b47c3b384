// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Functions
import Linux
import NIOCore

/// What a destination is sent, as Lambda writes it.
struct DestinationRecord {
    let json: [UInt8]

    // Why an event was given up, in Lambda's words.
    static let tooOld = "EventAgeExceeded"
    static let switchedOff = "ZeroReservedConcurrency"

    init(_ event: QueuedEvent, isGood: Bool, now: Int64) {
        struct Context: Encodable {
            var requestId: String
            var functionArn: String
            var condition: String
            var approximateInvokeCount: Int
        }
        struct Response: Encodable {
            var statusCode = 200
            var executedVersion: String
            var functionError: String?
        }
        struct Head: Encodable {
            var version = "1.0"
            var timestamp: String
            var requestContext: Context
            var responseContext: Response?
        }
        // arn:aws:lambda:REGION:ACCOUNT:function:NAME, and a qualifier where the caller gave one
        let isQualified = event.arn.split(separator: ":").count > 7
        let named: String? = [Self.tooOld, Self.switchedOff].first { $0 == event.reason }
        let condition = isGood ? "Success" : named ?? "RetriesExhausted"
        let head = Head(
            timestamp: WallClock.iso8601(now),
            requestContext: Context(
                requestId: event.id,
                functionArn: isQualified ? event.arn : "\(event.arn):\(FunctionRecord.latest)",
                condition: condition,
                approximateInvokeCount: event.attempts
            ),
            responseContext: event.result == nil
                ? nil
                : Response(
                    executedVersion: event.executedVersion ?? FunctionRecord.latest,
                    functionError: isGood ? nil : "Unhandled"
                )
        )
        var text = (try? JSONEncoder().encode(head)).map { [UInt8]($0) } ?? Array("{}".utf8)
        text.removeLast()
        text += Array(",\"requestPayload\":".utf8) + Self.oneLine(event.payload)
        if let result = event.result, !result.isEmpty {
            text += Array(",\"responsePayload\":".utf8) + Self.oneLine(result)
        }
        json = text + Array("}".utf8)
    }

    /// A payload as a value of JSON, in one line: what is none, as a runtime that takes bytes may have it, as a string.
    private static func oneLine(_ payload: [UInt8]) -> [UInt8] {
        guard JSONCheck.problem(ByteBuffer(bytes: payload)) == nil else {
            return (try? JSONEncoder().encode(String(decoding: payload, as: UTF8.self))).map { [UInt8]($0) }
                ?? Array("null".utf8)
        }
        // No string of JSON has a bare end of a line in it: those that are there are between its values.
        return payload.filter { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
    }
}
