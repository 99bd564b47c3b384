// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import RuntimeAPI

@Suite("The extensions of a sandbox")
struct ExtensionRegistryTests {
    typealias Registry = ExtensionRegistry<Int>

    private let call = ExtensionEvent.Invocation(requestID: "r", deadlineMs: 1, functionARN: "arn")

    /// One external extension that has registered and waits.
    private func waiting(_ events: [String] = ["INVOKE", "SHUTDOWN", "RESIZE"]) throws -> Registry {
        var sandbox = Registry()
        try sandbox.launched("a")
        try sandbox.register("a", events: events, identifier: "id-a")
        _ = try sandbox.next("id-a", 1)
        return sandbox
    }

    @Test("without any, a sandbox is at rest whenever its runtime waits")
    func none() {
        var registry = Registry()
        #expect(registry.runtimeIsWaiting() == true)
        #expect(registry.invoke(call).isEmpty == true)
        #expect(registry.runtimeIsWaiting() == true)
        #expect(registry.wantsShutdown == false)
    }

    @Test("a start is over when the runtime and every extension have asked for their next event, and once")
    func start() throws {
        var registry = Registry()
        try registry.launched("a")
        try registry.launched("b")
        #expect(registry.runtimeIsWaiting() == false)
        try registry.register("a", events: ["INVOKE"], identifier: "id-a")
        #expect(try registry.next("id-a", 1).isAtRest == false)
        try registry.register("b", events: [], identifier: "id-b")
        #expect(try registry.next("id-b", 2).isAtRest == true)
    }

    @Test("one that ends without having registered is not waited for, and does no harm")
    func endsEarly() throws {
        var registry = Registry()
        try registry.launched("a")
        #expect(registry.runtimeIsWaiting() == false)
        #expect(registry.exited("a") == .harmless(isAtRest: true))
        #expect(registry.exited("nobody") == .harmless(isAtRest: false))
    }

    @Test("an invocation is over when those who are told of it have asked again")
    func invocation() throws {
        var registry = try waiting()
        #expect(registry.runtimeIsWaiting() == true)
        let given = registry.invoke(call)
        #expect(given.map(\.waiter) == [1])
        #expect(given.map(\.event) == [.invoke(call)])
        #expect(registry.runtimeIsWaiting() == false)
        #expect(try registry.next("id-a", 2).isAtRest == true)
    }

    @Test("one that asked for no invocations is not waited for")
    func notInvoked() throws {
        var registry = try waiting(["SHUTDOWN"])
        #expect(registry.runtimeIsWaiting() == true)
        #expect(registry.invoke(call).isEmpty == true)
        #expect(registry.runtimeIsWaiting() == true)
    }

    @Test("an event that comes while an extension works is the answer to its next question")
    func pending() throws {
        var registry = try waiting()
        _ = registry.runtimeIsWaiting()
        #expect(registry.resize(memoryMB: 1, cpuMillis: 2).count == 1)
        #expect(registry.invoke(call).isEmpty == true)
        #expect(registry.runtimeIsWaiting() == false)
        let next = try registry.next("id-a", 2)
        #expect(next.event == .invoke(call))
        #expect(next.isAtRest == false)
        #expect(try registry.next("id-a", 3).isAtRest == true)
    }

    @Test("of several changes of size only the newest is told to one that was busy")
    func newestSize() throws {
        var registry = try waiting()
        #expect(registry.resize(memoryMB: 1, cpuMillis: nil).count == 1)
        #expect(registry.resize(memoryMB: 2, cpuMillis: nil).isEmpty == true)
        #expect(registry.resize(memoryMB: 3, cpuMillis: nil).isEmpty == true)
        #expect(try registry.next("id-a", 2).event == .resize(memoryMB: 3, cpuMillis: nil))
        #expect(try registry.next("id-a", 3).event == nil)
    }

    @Test("the end is told at once to who waits, later to who works, and to nobody else")
    func shutdown() throws {
        var registry = try waiting()
        try registry.launched("b")
        try registry.register("b", events: ["SHUTDOWN"], identifier: "id-b")
        try registry.launched("c")
        try registry.register("c", events: ["INVOKE"], identifier: "id-c")
        #expect(registry.wantsShutdown == true)
        let given = registry.shutdown(.spindown, deadlineMs: 9)
        #expect(given.map(\.waiter) == [1])
        #expect(try registry.next("id-b", 2).event == .shutdown(.spindown, deadlineMs: 9))
        #expect(registry.isShutDown == false)
        #expect(registry.exited("a") == .harmless(isAtRest: false))
        _ = try registry.next("id-b", 3)
        #expect(registry.isShutDown == true)
    }

    @Test("one that had registered and ends is a crash, but not after it was told to end")
    func crash() throws {
        var registry = try waiting()
        #expect(registry.exited("a") == .crash)
        #expect(registry.wantsShutdown == false)
        var told = try waiting()
        _ = told.shutdown(.timeout, deadlineMs: 1)
        #expect(told.exited("a") == .harmless(isAtRest: false))
    }

    @Test("names and events that are not allowed are refused")
    func refused() throws {
        var registry = Registry()
        #expect(throws: ExtensionRefusal.invalidName("Empty extension name")) {
            try registry.register("", events: [], identifier: "x")
        }
        #expect(throws: ExtensionRefusal.self) {
            try registry.register(String(repeating: "n", count: 129), events: [], identifier: "x")
        }
        #expect(throws: ExtensionRefusal.invalidEvent("BOOT: no such event")) {
            try registry.register("a", events: ["INVOKE", "BOOT"], identifier: "x")
        }
        #expect(throws: ExtensionRefusal.self) { try registry.register("a", events: ["SHUTDOWN"], identifier: "x") }
        var several = Registry(allowsInvoke: false)
        #expect(throws: ExtensionRefusal.self) { try several.register("a", events: ["INVOKE"], identifier: "x") }
        try several.register("a", events: ["RESIZE"], identifier: "x")
    }

    @Test("a name is taken once, and no more than ten are taken")
    func limits() throws {
        var registry = try waiting()
        #expect(throws: ExtensionRefusal.self) { try registry.launched("a") }
        #expect(throws: ExtensionRefusal.self) { try registry.register("a", events: [], identifier: "y") }
        for number in 1..<10 { try registry.register("n\(number)", events: [], identifier: "id-\(number)") }
        #expect(throws: ExtensionRefusal.tooMany(limit: 10)) {
            try registry.register("more", events: [], identifier: "z")
        }
        #expect(throws: ExtensionRefusal.tooMany(limit: 10)) { try registry.launched("more") }
    }

    @Test("registration closes at the runtime's first question, but for those that are waited for")
    func closed() throws {
        var registry = Registry()
        try registry.launched("late")
        _ = registry.runtimeIsWaiting()
        #expect(throws: ExtensionRefusal.registrationClosed) {
            try registry.register("inside", events: [], identifier: "x")
        }
        try registry.register("late", events: [], identifier: "y")
    }

    @Test("calls out of order are refused with the states' names")
    func order() throws {
        var registry = try waiting()
        #expect(throws: ExtensionRefusal.unknownIdentifier) { try registry.next("id-b", 2) }
        #expect(throws: ExtensionRefusal.invalidState(name: "a", from: "Ready", to: "Ready")) {
            try registry.next("id-a", 2)
        }
        #expect(throws: ExtensionRefusal.invalidState(name: "a", from: "Ready", to: "InitError")) {
            try registry.initError("id-a")
        }
        #expect(try registry.exitError("id-a") == "a")
        #expect(throws: ExtensionRefusal.self) { try registry.next("id-a", 3) }
        #expect(try registry.exitError("id-a") == "a")  // again: the first one counts
    }

    @Test("one that lost its connection asks again and is given what came meanwhile")
    func lost() throws {
        var registry = Registry()
        try registry.launched("a")
        try registry.register("a", events: ["INVOKE"], identifier: "id-a")
        let token = try registry.next("id-a", 1).token
        _ = registry.runtimeIsWaiting()
        registry.lost("id-a", token)
        #expect(registry.invoke(call).isEmpty == true)
        #expect(try registry.next("id-a", 2).event == .invoke(call))
    }

    @Test("events are Lambda's documents")
    func documents() {
        var call = call
        #expect(
            ExtensionEvent.invoke(call).json
                == #"{"deadlineMs":1,"eventType":"INVOKE","invokedFunctionArn":"arn","requestId":"r"}"#
        )
        call.traceID = "Root=1\""
        #expect(
            ExtensionEvent.invoke(call).json.contains(#""tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1\""}"#)
        )
        #expect(
            ExtensionEvent.shutdown(.spindown, deadlineMs: 5).json
                == #"{"deadlineMs":5,"eventType":"SHUTDOWN","shutdownReason":"SPINDOWN"}"#
        )
        #expect(
            ExtensionEvent.resize(memoryMB: 64, cpuMillis: 500).json
                == #"{"cpuMillis":500,"eventType":"RESIZE","memoryMB":64}"#
        )
    }
}
