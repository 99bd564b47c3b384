// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Functions
import Linux

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
        // The two payloads are put in as they are: they are JSON already, and nobody has to parse them here.
        var text = (try? JSONEncoder().encode(head)).map { [UInt8]($0) } ?? Array("{}".utf8)
        text.removeLast()
        text += Array(",\"requestPayload\":".utf8) + event.payload
        if let result = event.result, !result.isEmpty { text += Array(",\"responsePayload\":".utf8) + result }
        json = text + Array("}".utf8)
    }
}
