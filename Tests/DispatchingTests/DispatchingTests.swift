// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Testing
import Units

@testable import Dispatching

@Suite("Dispatching")
struct DispatchingTests {
    @Test(
        "one JSON value is accepted",
        arguments: ["{}", "[1, 2]", "\"x\"", "null", " 3.5 ", "{\"a\": {\"b\": [true]}}"]
    )
    func json(text: String) { #expect(JSONCheck.problem(ByteBuffer(string: text)) == nil) }

    @Test("anything else is not", arguments: ["", "{", "{oops", "[1,]x", "{\"a\" 1}", "nul"])
    func notJSON(text: String) { #expect(JSONCheck.problem(ByteBuffer(string: text)) != nil) }

    @Test("the operator's word beats the developer's, which beats the default; nobody passes the ceiling")
    func effective() {
        func value(_ word: Int?, _ function: Int?) -> Effective<Int> {
            Effective(operator: word, function: function, default: 5, ceiling: 100)
        }
        #expect(value(1, 2).value == 1 && value(1, 2).origin == .operator)
        #expect(value(nil, 2).value == 2 && value(nil, 2).origin == .function)
        #expect(value(nil, nil).value == 5 && value(nil, nil).origin == .default)
        #expect(value(nil, 200).value == 100 && value(nil, 200).origin == .limit)
    }

    @Test("the REPORT line is Lambda's, tabs included")
    func report() {
        var result = InvocationResult(requestID: "id", outcome: .success(ByteBuffer()))
        result.duration = .microseconds(3014)
        result.contract = .mib(128)
        result.peak = Bytes(36 << 20)
        result.initDuration = .microseconds(110_104)
        let line =
            "REPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
        #expect(result.report(status: nil) == line + "Init Duration: 110.10 ms\t")
    }
}
