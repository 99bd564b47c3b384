// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB
import Glibc
import Testing
import Units

@testable import Functions

@Suite("The queue of events")
struct EventQueueTests {
    private let state: TemporaryState

    init() throws { state = try TemporaryState() }

    private func queue() throws -> EventQueue { try EventQueue(stateDirectory: state.path) }

    private func event(_ id: String, _ function: String = "f", at ms: Int64 = 100, bytes: Int = 10) -> QueuedEvent {
        QueuedEvent(
            id: id,
            function: function,
            arn: "arn:\(function)",
            payload: [UInt8](repeating: 0x20, count: bytes),
            acceptedMs: ms
        )
    }

    @Test("a commit waits for the disk, also in a database that is opened again")
    func synchronous() throws {
        for _ in 0..<2 {
            let database = try StateDatabase("\(state.path)/any.sqlite", DatabaseMigrator())
            #expect(database.synchronous == 2)
            database.close()
        }
    }

    @Test("what is due is taken once, oldest first, and nothing before its time or of a function that has enough")
    func claims() throws {
        let queue = try queue()
        for (id, function, ms) in [("b", "f", 20), ("a", "f", 10), ("c", "g", 30), ("d", "f", 99)]
            as [(String, String, Int64)]
        {
            try queue.accept(event(id, function, at: ms), limit: .mib(1))
        }
        #expect(try queue.nextDue() == 10)
        #expect(try queue.claim(.deliveries, now: 50, limit: 9).isEmpty, "none of them is a delivery")
        #expect(try queue.claim(now: 50, limit: 1).map(\.id) == ["a"])
        #expect(try queue.claim(now: 50, limit: 9, except: ["f"]).map(\.id) == ["c"])
        #expect(try queue.claim(now: 50, limit: 9).map(\.id) == ["b"])
        #expect(try queue.claim(now: 50, limit: 9).isEmpty)
        #expect(try queue.nextDue() == 99)
    }

    @Test("what a function runs and what is carried to a target are taken apart from each other")
    func kinds() throws {
        let queue = try queue()
        var record = event("record", at: 20)
        record.target = "file:///a"
        for event in [event("run", at: 10), record] { try queue.accept(event, limit: .mib(1)) }
        #expect(try queue.claim(.deliveries, now: 50, limit: 9, except: ["file:///a"]).isEmpty)
        #expect(try queue.claim(.deliveries, now: 50, limit: 9).map(\.id) == ["record"])
        #expect(try queue.claim(.runs, now: 50, limit: 9).map(\.id) == ["run"])
    }

    @Test("what ran when the daemon ended is queued again, with the attempts it had")
    func reopening() throws {
        var first: EventQueue? = try queue()
        var sent = event("a")
        sent.clientContext = "{}"
        try first?.accept(sent, limit: .mib(1))
        var taken = try #require(try first?.claim(now: 100, limit: 1).first)
        (taken.state, taken.attempts, taken.dueMs, taken.reason) = (.queued, 1, 200, "the function failed")
        try first?.settle(taken)
        _ = try first?.claim(now: 300, limit: 1)
        first?.close()
        first = nil
        let found = try #require(try queue().get("a"))
        #expect((found.state, found.attempts, found.clientContext) == (.queued, 1, "{}"))
    }

    @Test("the same event is accepted once")
    func repeated() throws {
        let queue = try queue()
        for _ in 0..<2 { try queue.accept(event("a"), limit: .mib(1)) }
        #expect(try queue.list().count == 1)
    }

    @Test("a full queue drops its oldest answers, then refuses")
    func full() throws {
        let queue = try queue()
        for id in ["a", "b"] {
            try queue.accept(event(id, bytes: 4000), limit: .kib(10))
            var taken = try #require(try queue.claim(now: 100, limit: 1).first)
            (taken.state, taken.finishedMs, taken.result) = (.succeeded, 100, [1])
            try queue.settle(taken)
        }
        try queue.accept(event("c", bytes: 4000), limit: .kib(10))
        #expect(try queue.list().map(\.id) == ["c"])
        try queue.accept(event("d", bytes: 4000), limit: .kib(10))
        #expect(throws: FunctionsError.queueFull(limit: .kib(10))) {
            try queue.accept(event("e", bytes: 4000), limit: .kib(10))
        }
        #expect(try queue.purge(state: .queued) == 2)
        try queue.accept(event("e", bytes: 4000), limit: .kib(10))
    }

    @Test("only what was given up is retried, only what does not run is purged, and answers are forgotten in time")
    func operations() throws {
        let queue = try queue()
        for id in ["good", "bad", "runs"] { try queue.accept(event(id), limit: .mib(1)) }
        for var taken in try queue.claim(now: 100, limit: 9) where taken.id != "runs" {
            taken.state = taken.id == "good" ? .succeeded : .failed
            taken.finishedMs = 150
            try queue.settle(taken)
        }
        #expect(try !queue.retry("good", now: 200))
        #expect(try queue.retry("bad", now: 200))
        #expect(try queue.get("bad")?.state == .queued)
        #expect(throws: FunctionsError.invalid("what runs cannot be purged")) { try queue.purge(state: .running) }
        try queue.forget(before: 150)
        #expect(try queue.get("good") != nil)
        try queue.forget(before: 151)
        #expect(try queue.get("good") == nil)
        #expect(try queue.purge() == 0)
        #expect(try Set(queue.counts().map(\.state)) == [.queued, .running])
    }

    @Test("what follows from an ended event is accepted with its end, whatever room there is")
    func followers() throws {
        let queue = try queue()
        try queue.accept(event("a", bytes: 4000), limit: .kib(5))
        var taken = try #require(try queue.claim(now: 100, limit: 1).first)
        (taken.state, taken.finishedMs) = (.failed, 100)
        var record = event("b", bytes: 4000)
        record.target = "file:///x/y"
        try queue.settle(taken, then: [record, event("c", "g")])
        #expect(try queue.get("b")?.target == "file:///x/y")
        // What is carried and what is run are taken apart from each other, while both are due.
        #expect(try queue.claim(.deliveries, now: 100, limit: 9, except: ["file:///x/y"]).isEmpty)
        #expect(try queue.claim(.deliveries, now: 100, limit: 9).map(\.id) == ["b"])
        #expect(try queue.claim(.runs, now: 100, limit: 9).map(\.id) == ["c"])
        #expect(throws: FunctionsError.queueFull(limit: .kib(5))) { try queue.accept(event("d"), limit: .kib(5)) }
    }

    @Test("a tick is accepted once, with the mark that it was")
    func ticks() throws {
        let queue = try queue()
        let tick = EventQueue.Tick(function: "f", schedule: "s", ms: 60_000)
        for _ in 0..<2 { try queue.accept(event("a"), limit: .mib(1), tick: tick) }
        #expect(try queue.ticks() == [tick])
        #expect(try queue.list().count == 1)
        #expect(throws: FunctionsError.self) {
            try queue.accept(
                event("b", bytes: 4000),
                limit: .kib(1),
                tick: EventQueue.Tick(function: "f", schedule: "s", ms: 120_000)
            )
        }
        #expect(try queue.ticks() == [tick])
    }

    @Test("how long the oldest has been waiting is known for each function")
    func oldest() throws {
        let queue = try queue()
        for (id, function, ms) in [("a", "f", 20), ("b", "f", 10), ("c", "g", 30)] as [(String, String, Int64)] {
            try queue.accept(event(id, function, at: ms), limit: .mib(1))
        }
        #expect(try queue.oldest() == ["f": 10, "g": 30])
    }

    @Test(
        "a file that is no database, or half of one, is refused by its name",
        arguments: ["garbage", "half", "flipped"]
    )
    func damaged(kind: String) throws {
        let path = "\(state.path)/events.sqlite"
        var whole: EventQueue? = try queue()
        for n in 0..<50 { try whole?.accept(event("e\(n)", bytes: 2000), limit: .mib(1)) }
        whole?.close()
        whole = nil
        let size = try #require(try? Data(contentsOf: URL(filePath: path)).count)
        let fd = unsafe open(path, O_RDWR)
        defer { close(fd) }
        let noise = [UInt8](repeating: 0x5A, count: 4096)
        switch kind {
        case "garbage":
            ftruncate(fd, 0)
            _ = unsafe write(fd, noise, noise.count)
        case "half": ftruncate(fd, off_t(size / 2 / 4096 * 4096))
        default: _ = unsafe pwrite(fd, noise, noise.count, off_t(size / 2 / 4096 * 4096))
        }
        let error = #expect(throws: FunctionsError.self) { try queue() }
        #expect(error?.description.hasPrefix("\(path) is damaged (") == true, "\(error?.description ?? "")")
    }
}
