// SPDX-License-Identifier: Apache-2.0
import Foundation
import Functions
import Testing

@testable import Dispatching

@Suite("What a destination is sent")
struct DestinationRecordTests {
    @Test(
        "is one line of JSON, whatever was sent and answered",
        arguments: [
            ("{\"n\": 1}", "[2]"), ("{\n  \"pretty\": \"a\\nb\"\r\n}\n", "\"é\""),
            ("not json at all", "hello\nworld \" \\"),
            ("", "{\"open\": "),
        ]
    )
    func oneLine(payload: String, result: String) throws {
        var event = QueuedEvent(
            id: "1",
            function: "f",
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f",
            payload: Array(payload.utf8),
            acceptedMs: 0
        )
        event.result = Array(result.utf8)
        let record = DestinationRecord(event, isGood: true, now: 0).json
        #expect(!record.contains(UInt8(ascii: "\n")))
        let json = try #require(try JSONSerialization.jsonObject(with: Data(record)) as? [String: Any])
        func meaning(_ text: String) -> NSObject? {
            let any = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
            return (any ?? text) as? NSObject
        }
        #expect(json["requestPayload"] as? NSObject == meaning(payload))
        #expect(json["responsePayload"] as? NSObject == meaning(result))
    }
}
