// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Functions

@Suite("Events and schedules in function.yaml")
struct ManifestEventsTests {
    @Test("what becomes of events is read")
    func events() throws {
        let text =
            "events: {retries: 1, max_age: 10m, on_success: 'arn:aws:lambda:us-east-1:0:function:told', on_failure: 'file:///x/y'}"
        let events = try #require(try Manifest(yaml: text).events)
        #expect((events.retries, events.maxAgeSeconds) == (1, 600))
        #expect((events.onSuccess, events.onFailure) == ("told", "file:///x/y"))
    }

    @Test("schedules are read, with their input as JSON")
    func schedules() throws {
        let text = """
            schedules:
              - {cron: "*/5 * * * *", input: {a: 1, "b": [true, yes, null, 1.5e3, 0x10, "2"], c: "q\\"\\n"}, name: nightly}
              - cron: rate(5 minutes)
            """
        let schedules = try #require(try Manifest(yaml: text).schedules)
        #expect(schedules.map(\.name) == ["nightly", "schedule-2"])
        #expect(schedules[0].input == #"{"a":1,"b":[true,"yes",null,1.5e3,"0x10","2"],"c":"q\"\n"}"#)
        #expect(schedules[1].expression == "rate(5 minutes)" && schedules[1].input == nil)
    }

    @Test(
        "what is wrong is said with its place",
        arguments: [
            ("events: {retry: 1}", ":1:10: error: unknown key 'retry'"),
            ("events: [1]", ":1:9: error: events: expected `key: value` lines"),
            ("events: {retries: -1}", ":1:19: error: retries: expected a whole number from 0 to 100"),
            ("events:\n  max_age: 8d", ":2:12: error: max_age: expected a duration from 1s to 7d"),
            ("events: {on_failure: 'arn:aws:sqs:x:0:q'}", ":1:22: error: on_failure: destination"),
            ("schedules: daily", ":1:12: error: schedules: expected a list"),
            ("schedules: [daily]", ":1:13: error: schedules: expected `key: value` lines"),
            (
                "schedules:\n  - cron: '61 * * * *'",
                ":2:11: error: cron: minute: '61' is not from 0 to 59; an example: '*/5 * * * *'"
            ),
            ("schedules: [{name: x}]", "error: cron: a schedule needs when it runs"),
            ("schedules: [{cron: '@daily', name: a b}]", ":1:36: error: name: expected 1 to 64 letters"),
            ("schedules: [{cron: '@daily', name: a}, {cron: '@hourly', name: a}]", "two schedules of the name 'a'"),
            ("schedules: [{cron: '@daily', inputs: 1}]", "did you mean 'input'?"),
            ("schedules: [{cron: '@daily', input: {[1]: 2}}]", "error: input: expected names, lists and values"),
        ]
    )
    func wrong(text: String, message: String) {
        let error = #expect(throws: FunctionsError.self) { try Manifest(yaml: text) }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }

    @Test("an input whose aliases stand for more than may be is refused", arguments: [3, 12])
    func aliases(levels: Int) {
        let values = Array(repeating: String(repeating: "x", count: 20), count: 10).joined(separator: ", ")
        var text = "schedules:\n  - cron: '@daily'\n    input:\n      a0: &a0 [\(values)]\n"
        for n in 1..<levels {
            text +=
                "      a\(n): &a\(n) [\(Array(repeating: "*a\(n - 1)", count: levels == 3 ? 20 : 10).joined(separator: ", "))]\n"
        }
        let error = #expect(throws: FunctionsError.self) { try Manifest(yaml: text) }
        let why = levels == 3 ? "at most 65536 bytes" : "too many aliases"
        #expect(error?.description.contains(why) == true, "\(error?.description ?? "")")
    }

    @Test("a schedule that stays the same goes on, one that changed begins anew")
    func since() {
        let old = [
            Schedule(name: "a", expression: "@daily", sinceMs: 5),
            Schedule(name: "b", expression: "@daily", sinceMs: 5),
        ]
        let new = [Schedule(name: "a", expression: "@daily", input: "1"), Schedule(name: "b", expression: "@hourly")]
        #expect(Schedule.taking(new, over: old, now: 9).map(\.sinceMs) == [5, 9])
    }

    @Test("what a manifest leaves open about events stays, dead letters always")
    func taking() {
        var old = EventHandling()
        (old.retries, old.deadLetter, old.modifiedMs) = (0, "dead", 5)
        #expect(old.taking(nil, now: 9) == old)
        var said = EventHandling()
        said.onFailure = "told"
        let new = old.taking(said, now: 9)
        #expect((new.retries, new.onFailure, new.deadLetter, new.modifiedMs) == (nil, "told", "dead", 9))
        #expect(new.taking(said, now: 11) == new)
    }
}
