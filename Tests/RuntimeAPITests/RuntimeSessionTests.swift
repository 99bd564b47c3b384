// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import RuntimeAPI

@Suite("A Runtime API session")
struct RuntimeSessionTests {
    typealias Session = RuntimeSession<Int>

    @Test("gives an invocation to the next that waits, and takes its answer once")
    func oneInvocation() throws {
        var session = Session()
        #expect(session.deliver("a") == nil)
        _ = try session.next(7)
        #expect(session.isWaiting)
        #expect(session.deliver("a") == 7)
        #expect(session.runningRequestIDs == ["a"])
        try session.answer("a")
        #expect(throws: Session.Refusal.invalidStateTransition("the invocation has been answered already")) {
            try session.answer("a")
        }
        _ = try session.next(8)
        #expect(session.deliver("b") == 8)
    }

    @Test("refuses an answer to a request that is not running")
    func wrongRequest() throws {
        var session = Session()
        #expect(throws: Session.Refusal.invalidRequestID) { try session.answer("a") }
        _ = try session.next(1)
        _ = session.deliver("a")
        #expect(throws: Session.Refusal.invalidRequestID) { try session.answer("b") }
        try session.answer("a")
    }

    @Test("refuses a second next while one waits or an invocation runs")
    func nextTwice() throws {
        var session = Session()
        _ = try session.next(1)
        #expect(throws: Session.Refusal.self) { try session.next(2) }
        _ = session.deliver("a")
        #expect(throws: Session.Refusal.self) { try session.next(3) }
    }

    @Test("lets a runtime ask again after its waiting connection was lost")
    func lostConnection() throws {
        var session = Session()
        let token = try session.next(1).token
        session.lost(token)
        #expect(session.deliver("a") == nil)
        let later = try session.next(2).token
        session.lost(token)  // a stale notice changes nothing
        #expect(session.deliver("a") == 2)
        #expect(later != token)
    }

    @Test("takes init/error before the first next, once, and no next after it")
    func initError() throws {
        var session = Session()
        try session.initError()
        #expect(throws: Session.Refusal.self) { try session.initError() }
        #expect(throws: Session.Refusal.self) { try session.next(1) }
        var started = Session()
        _ = try started.next(1)
        #expect(throws: Session.Refusal.self) { try started.initError() }
    }

    @Test("hints only a runtime that waits, which then asks again")
    func hint() throws {
        var session = Session()
        #expect(session.hint() == [])
        _ = try session.next(1)
        #expect(session.hint() == [1])
        #expect(session.deliver("a") == nil)
        _ = try session.next(2)
        #expect(session.deliver("a") == 2)
    }

    @Test("takes an answer in pieces: it is answered when the last has come")
    func streamed() throws {
        var session = Session()
        #expect(throws: Session.Refusal.invalidRequestID) { try session.beginStream("a") }
        _ = try session.next(1)
        _ = session.deliver("a")
        #expect(throws: Session.Refusal.invalidRequestID) { try session.beginStream("b") }
        try session.beginStream("a")
        #expect(session.runningRequestIDs == ["a"])
        #expect(throws: Session.Refusal.invalidStateTransition("the invocation is being answered")) {
            try session.answer("a")
        }
        #expect(throws: Session.Refusal.self) { try session.beginStream("a") }
        #expect(throws: Session.Refusal.self) { try session.next(2) }
        let ends = [session.endStream("b"), session.endStream("a"), session.endStream("a"), session.breakStream("a")]
        #expect(ends == [false, true, false, false])
        _ = try session.next(3)
        #expect(session.deliver("b") == 3)
    }

    @Test("trusts nothing after an answer that was broken off")
    func brokenOff() throws {
        var session = Session()
        _ = try session.next(1)
        _ = session.deliver("a")
        let early = session.breakStream("a")
        #expect(!early, "it has not begun")
        try session.beginStream("a")
        let ends = [session.breakStream("a"), session.endStream("a")]
        #expect(ends == [true, false])
        #expect(throws: Session.Refusal.self) { try session.next(2) }
        #expect(throws: Session.Refusal.self) { try session.answer("a") }
    }

    @Test("takes the handshake of a restore between the start and the first next, once")
    func restore() throws {
        var session = Session()
        #expect(throws: Session.Refusal.self) { try session.restoreError() }
        try session.restoreNext()
        #expect(throws: Session.Refusal.self) { try session.restoreNext() }
        _ = try session.next(1)
        #expect(throws: Session.Refusal.self) { try session.restoreNext() }
        var failed = Session()
        try failed.restoreNext()
        try failed.restoreError()
        #expect(throws: Session.Refusal.self) { try failed.next(1) }
    }

    @Test("holds as many questions and invocations at once as there are places")
    func several() throws {
        var session = Session(places: 2)
        #expect(try session.next(1).isRepeated == false)
        #expect(try session.next(2).isRepeated == true)  // a second process, after no answer
        #expect(throws: Session.Refusal.self) { try session.next(3) }
        #expect(session.deliver("a") == 1)
        #expect(session.deliver("b") == 2)
        #expect(session.deliver("c") == nil)
        #expect(throws: Session.Refusal.self) { try session.next(3) }
        try session.answer("b")
        #expect(session.hint() == [])  // one still runs
        #expect(try session.next(3).isRepeated == false)
        #expect(session.deliver("c") == 3)
        try session.beginStream("a")
        try session.answer("c")
        let ended = session.endStream("a")
        #expect(ended)
        #expect(try session.next(4).isRepeated == false)
        #expect(try session.next(5).isRepeated == false)
        #expect(session.hint() == [4, 5])
        #expect(session.isHinted)
        #expect(try session.next(6).isRepeated == true)
        #expect(try session.next(7).isRepeated == true)
        #expect(!session.isHinted)
    }
}
