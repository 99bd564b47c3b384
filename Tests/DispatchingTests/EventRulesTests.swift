// SPDX-License-Identifier: Apache-2.0
import Foundation
import Functions
import Settings
import Testing

@testable import Dispatching

@Suite("What becomes of events")
struct EventRulesTests {
    private func rules(_ edit: (inout EventHandling) -> Void = { _ in }) -> EventRules {
        var (own, defaults) = (EventHandling(), Settings().defaults)
        (defaults.retries, defaults.backoff, defaults.maxEventAge) = (
            2, [.seconds(60), .seconds(120)], .seconds(21_600)
        )
        edit(&own)
        return EventRules(own, defaults)
    }

    private func ended(_ state: QueuedEvent.State) -> QueuedEvent {
        var event = QueuedEvent(
            id: "id",
            function: "f",
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
            payload: Array("{\"a\":1}".utf8),
            acceptedMs: 5
        )
        (event.state, event.attempts, event.reason) = (state, 3, state == .failed ? "RetriesExhausted" : nil)
        return event
    }

    @Test("a function's word beats the operator's default; each attempt waits as is said, the last one's wait holds on")
    func word() {
        #expect(rules().retries == 2 && rules { $0.retries = 0 }.retries == 0)
        #expect(rules { $0.maxAgeSeconds = 60 }.maxAge == .seconds(60))
        #expect((0...2).map { rules().pause(before: $0) } == [.seconds(60), .seconds(120), .seconds(120)])
    }

    @Test("a failed event goes to its destination as a record and to its dead letters as it was")
    func failed() throws {
        let both = rules { ($0.onSuccess, $0.onFailure, $0.deadLetter) = ("good", "file:///x/y", "dead") }
        let followers = both.followers(of: ended(.failed), now: 9) { "new" }
        #expect(followers.map(\.target) == ["file:///x/y", nil] && followers.map(\.function) == ["f", "dead"])
        #expect(followers[1].payload == ended(.failed).payload && followers[1].acceptedMs == 9)
        #expect(followers[1].arn == "arn:aws:lambda:us-east-1:000000000000:function:dead")
        let record = try #require(try JSONSerialization.jsonObject(with: Data(followers[0].payload)) as? [String: Any])
        let context = try #require(record["requestContext"] as? [String: Any])
        #expect(context["condition"] as? String == "RetriesExhausted" && context["approximateInvokeCount"] as? Int == 3)
        #expect(context["functionArn"] as? String == ended(.failed).arn)
    }

    @Test("a good one goes to its own destination alone, and a record to none")
    func good() {
        let both = rules { ($0.onSuccess, $0.onFailure, $0.deadLetter) = ("good", "bad", "dead") }
        #expect(both.followers(of: ended(.succeeded), now: 9) { "new" }.map(\.function) == ["good"])
        var delivery = ended(.failed)
        delivery.target = "http://localhost/"
        #expect(both.followers(of: delivery, now: 9) { "new" }.isEmpty)
        #expect(rules().followers(of: ended(.failed), now: 9) { "new" }.isEmpty)
    }
}
