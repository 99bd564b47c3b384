// SPDX-License-Identifier: Apache-2.0
import Policy
import Testing
import Units

@testable import Simulation

@Suite("The simulation")
struct SimulationTests {
    @Test(
        "an hour of the generator at 1.75 times the mean active set: at most half of LRU's and GreedyDual's cold starts"
    )
    func bar() {
        let trace = TraceGenerator(functions: 100, hours: 2, seed: 5).make()
        let memory = trace.meanActiveSet * 1.75
        let ours = EbbPolicy().run(trace, memory: memory)
        for kind in [KeepAlive.Kind.lru, .greedyDual] {
            let theirs = KeepAlive(kind).run(trace, memory: memory)
            #expect(Double(ours.coldStarts) <= 0.5 * Double(theirs.coldStarts), "\(kind.rawValue)")
            #expect(ours.refused <= theirs.refused)
        }
        #expect(ours.heldGiBHours <= memory.gib * trace.length / 3600 * 1.01)
    }

    @Test("with a shrink that takes nothing it is no better than the others can be: the gain is the shrink's")
    func ablation() {
        let trace = TraceGenerator(functions: 60, hours: 2, seed: 9).make()
        let memory = trace.meanActiveSet * 1.75
        var costs = Costs()
        costs.shrunkShare = 1
        let without = EbbPolicy(costs: costs).run(trace, memory: memory)
        let with = EbbPolicy().run(trace, memory: memory)
        #expect(with.coldStarts < without.coldStarts)
    }

    @Test("a trace that fits wholly is cold once a function at a time, whoever decides")
    func plenty() {
        let calls = (0..<50).map { Trace.Call(time: Double($0) * 10, function: $0 % 5, duration: 0.1) }
        let trace = Trace(functions: (0..<5).map { Trace.Function(name: "f\($0)", memory: .mib(100)) }, calls: calls)
        #expect(EbbPolicy().run(trace, memory: .gib(4)).coldStarts == 5)
        for kind in KeepAlive.Kind.allCases { #expect(KeepAlive(kind).run(trace, memory: .gib(4)).coldStarts == 5) }
    }

    @Test("fixed keep-alive ends what was idle for ten minutes")
    func fixed() {
        let calls = [0.0, 500, 1200].map { Trace.Call(time: $0, function: 0, duration: 0.1) }
        let trace = Trace(functions: [Trace.Function(name: "f", memory: .mib(100))], calls: calls)
        #expect(KeepAlive(.fixed).run(trace, memory: .gib(4)).coldStarts == 2)
        #expect(KeepAlive(.lru).run(trace, memory: .gib(4)).coldStarts == 1)
    }

    @Test("the same seed makes the same trace, another one another, and every call ends")
    func generator() {
        let one = TraceGenerator(functions: 20, hours: 1, seed: 3).make()
        let again = TraceGenerator(functions: 20, hours: 1, seed: 3).make()
        let other = TraceGenerator(functions: 20, hours: 1, seed: 4).make()
        #expect(one.calls == again.calls)
        #expect(one.calls != other.calls)
        let outcome = EbbPolicy().run(one, memory: one.meanActiveSet * 1.2)
        #expect(outcome.calls == one.calls.count)
    }

    @Test("popularity is heavy-tailed: a tenth of the functions gets more than half of the calls")
    func popularity() {
        let trace = TraceGenerator(functions: 200, hours: 12, seed: 2).make()
        var counts = [Int](repeating: 0, count: 200)
        for call in trace.calls { counts[call.function] += 1 }
        #expect(counts.sorted(by: >).prefix(20).reduce(0, +) * 2 > trace.calls.count)
        #expect(counts.contains { $0 < 30 })
    }

    @Test("the mean active set counts each minute at its highest number of calls at once")
    func activeSet() {
        let functions = [Trace.Function(name: "f", memory: .mib(100))]
        let calls = [0.0, 1, 130].map { Trace.Call(time: $0, function: 0, duration: 10) }
        // Two at once in the first minute, none in the second, one in the third.
        #expect(Trace(functions: functions, calls: calls).meanActiveSet == .mib(100))
    }

    @Test("both kinds of CSV are read")
    func reading() throws {
        let plain = try Trace(csv: "time,function,duration_ms,memory_mb\n100.5,a,200,64\n101,b,10,32\r\n")
        #expect(plain.functions.map(\.memory) == [.mib(64), .mib(32)])
        #expect(
            plain.calls == [.init(time: 0, function: 0, duration: 0.2), .init(time: 0.5, function: 1, duration: 0.01)]
        )
        #expect(try Trace(csv: "time,function\n1,a").calls.count == 1)
        let azure = try Trace(
            csv: "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,2,0,1\no,a,g,timer,0,1,0\n"
        )
        #expect(azure.functions.map(\.name) == ["f", "g"])
        #expect(azure.calls.map(\.time) == [15, 45, 90, 150])
    }

    @Test(
        "what is wrong in a trace is said with its line",
        arguments: [
            ("", "line 1: the trace is empty"), ("time,function\n1", "line 2: expected 2 values, got 1"),
            ("time,function\nx,a", "line 2: time: expected a number, got 'x'"),
            ("time,function,duration_ms,memory_mb\n1,a,5,0", "line 2: memory_mb: expected more than 0"),
            (
                "when,who\n1,a",
                "line 1: expected 'time,function,duration_ms,memory_mb' or 'HashOwner,HashApp,HashFunction,Trigger,1,…', got 'when,who'"
            ),
        ]
    )
    func badTraces(text: String, message: String) {
        #expect { try Trace(csv: text) } throws: { ("\($0)") == message }
    }
}

extension Bytes {
    fileprivate var gib: Double { Double(count) / 1_073_741_824 }
}
