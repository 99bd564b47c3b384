// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("The pool")
struct PoolStateTests {
    @Test("starts a sandbox for the first request and uses it again for the second")
    func reuse() {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.finish(1)
        driver.lease(2)
        #expect(driver.starts == [1: .cold, 2: .warm])
        #expect(driver.state.entries.count == 1)
    }

    @Test("a request that wants a new sandbox takes the place of an idle one where the function may have no more")
    func freshInItsPlace() {
        var driver = Driver(budget: .gib(1))
        driver.plan(concurrency: 1)
        driver.lease(1)
        driver.settle()
        driver.finish(1)
        driver.lease(2, fresh: true)
        driver.settle()
        #expect(driver.starts[2] == .cold)
        #expect(driver.state.entries.count == 1)
    }

    @Test("whoever waits for one of its function's places has it before those behind it")
    func placesInOrder() {
        var driver = Driver(budget: .gib(1))
        driver.plan(concurrency: 1)
        driver.lease(1)
        driver.settle()
        driver.lease(2, fresh: true)
        driver.lease(3)
        driver.finish(1)
        driver.settle()  // it comes to rest
        #expect(driver.starts[2] == .cold && driver.starts[3] == nil)
        driver.finish(2)
        driver.settle()
        #expect(driver.starts[3] == .warm)
    }

    @Test("shrinks an idle sandbox after the configured time, and wakes it at its whole contract")
    func shrinkAndWake() {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.finish(1)
        driver.pass(4)
        #expect(driver.pending.isEmpty)
        driver.pass(2)
        driver.settle()
        #expect(driver.state.ledger.promised == .mib(10))
        driver.lease(2)
        #expect(driver.starts[2] == .thawed)
        #expect(driver.state.ledger.promised == .mib(100))
    }

    @Test("a request that comes during a shrink takes the sandbox back")
    func wakeDuringShrink() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.finish(1)
        driver.pass(6)
        let id = try #require(driver.state.entries.keys.first)
        driver.lease(2)
        #expect(driver.starts[2] == .thawed)
        guard case .shrink(id, let order)? = driver.pending.first else {
            Issue.record("no shrink was ordered")
            return
        }
        #expect(!driver.state.stands(order, for: id), "an order that waited is out of date")
        // The shrink's end comes late and must change nothing.
        driver.apply(driver.state.shrunk(id, Shrink(limit: .mib(1)), by: order, now: driver.now))
        #expect(driver.state.ledger.held(by: id) == .mib(100))
        #expect(driver.state.entries[id]?.phase == .busy)
    }

    @Test("the end of one shrink, told late, is not taken for that of the next")
    func shrunkLate() throws {
        var driver = Driver(budget: .mib(300))
        driver.plan("a", memory: .mib(128))
        driver.plan("b", memory: .mib(200))
        driver.lease(1, "a")
        driver.settle()
        driver.finish(1)
        driver.isLate = true
        driver.pass(6)
        let isDone = driver.step()
        #expect(isDone)
        let id = try driver.sandbox("a").id
        #expect(driver.kernel[id] == .mib(10) && driver.late.count == 1)
        driver.lease(2, "a")
        driver.finish(2)
        driver.lease(3, "b")
        #expect(driver.state.entries[id]?.phase == .shrinking)
        driver.hear()
        #expect(driver.state.ledger.held(by: id) == .mib(128), "the kernel allows it as much")
        #expect(driver.starts[3] == nil)
        driver.isLate = false
        driver.settle()
        #expect(driver.starts[3] == .cold && driver.kernel[id] == .mib(10))
    }

    @Test("a sandbox that cannot be shrunk keeps what it has, serves, and is tried again after half a minute")
    func shrinkStops() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.finish(1)
        driver.pass(6)
        _ = driver.step(resists: true)
        #expect(driver.state.ledger.promised == .mib(100))
        #expect(driver.decisions.last?.reason == "the shrink stopped: it would not freeze")
        driver.pass(20)
        #expect(driver.pending.isEmpty)
        driver.pass(11)
        _ = driver.step(resists: true)
        driver.lease(2)
        #expect(driver.starts[2] == .warm)
        driver.finish(2)
        driver.pass(6)
        driver.settle()
        #expect(driver.state.ledger.promised == .mib(10))
    }

    @Test("takes memory from idle sandboxes before it evicts any")
    func shrinkBeforeEvict() {
        var driver = Driver(budget: .mib(250))
        for name in ["a", "b", "c"] { driver.plan(name) }
        for (token, name) in [(1, "a"), (2, "b")] as [(LeaseToken, String)] {
            driver.lease(token, name)
            driver.settle()
            driver.finish(token)
        }
        driver.lease(3, "c")
        driver.settle()
        #expect(driver.starts[3] == .cold)
        #expect(driver.state.entries.count == 3, "nobody was evicted")
    }

    @Test("evicts the longest unused when shrinking is not enough")
    func evict() {
        var driver = Driver(budget: .mib(105))
        for name in ["a", "b"] { driver.plan(name) }
        driver.lease(1, "a")
        driver.settle()
        driver.finish(1)
        driver.lease(2, "b")
        driver.settle()
        #expect(driver.starts[2] == .cold)
        #expect(driver.state.entries.values.map(\.function) == ["b"])
    }

    @Test("never takes from a busy sandbox: the request waits, and is refused with the numbers at its end")
    func busyIsSafe() {
        var driver = Driver(budget: .mib(150))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.lease(2)
        driver.settle()
        driver.pass(11)
        #expect(driver.refused[2] == .noMemory(wanted: .mib(100), free: .mib(50), budget: .mib(150)))
        #expect(driver.running.values.contains([1]))
    }

    @Test("a request whose sandbox is being started waits for it, however long the queue's patience is")
    func slowStart() {
        var driver = Driver(budget: .gib(1))
        driver.plan(concurrency: 1)
        driver.lease(1)
        driver.lease(2)
        driver.pass(60)
        #expect(driver.refused == [2: .concurrency(limit: 1)])
        driver.settle()
        #expect(driver.starts == [1: .cold])
    }

    @Test("refuses at once what can never fit")
    func neverFits() {
        var driver = Driver(budget: .mib(150))
        driver.plan()
        driver.lease(1, memory: .mib(200))
        #expect(driver.refused[1] == .neverFits(contract: .mib(200), budget: .mib(150)))
        driver.lease(2, "unknown")
        #expect(driver.refused[2] == .unknownFunction)
    }

    @Test("a function's concurrency holds, and the waiting request gets the first sandbox that is free")
    func concurrency() {
        var driver = Driver(budget: .gib(1))
        driver.plan(concurrency: 1)
        driver.lease(1)
        driver.lease(2)
        driver.settle()
        #expect(driver.starts[2] == nil)
        driver.finish(1)
        #expect(driver.starts[2] == .warm)
    }

    @Test("new code ends idle sandboxes at once and busy ones when they finish")
    func rotation() {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        driver.plan(generation: 2)
        #expect(driver.state.entries.count == 1)
        driver.lease(2)
        driver.settle()
        #expect(driver.starts[2] == .cold)
        driver.finish(1)
        driver.settle()
        #expect(driver.state.entries.count == 1)
    }

    @Test("a smaller size that does not fit stays pending until the sandbox is idle")
    func pendingSize() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        driver.settle()
        let id = try #require(driver.state.entries.keys.first)
        driver.plan(memory: .mib(40))
        driver.pending = []
        driver.apply(driver.state.lowered(id, to: .mib(100), wanted: .mib(40), now: driver.now))
        #expect(driver.state.entries[id]?.pending == .mib(40))
        driver.finish(1)
        driver.settle()
        #expect(driver.state.entries[id]?.pending == nil)
        #expect(driver.state.ledger.held(by: id) == .mib(40))
    }

    @Test("what one request was given beyond the function's size goes back when it parks")
    func ownSize() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1, memory: .mib(500))
        driver.settle()
        #expect(driver.state.ledger.promised == .mib(500))
        driver.finish(1)
        driver.settle()
        #expect(driver.state.ledger.promised == .mib(100))
    }

    @Test("a start that fails tells one request and lets the next one try")
    func startFailure() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.lease(1)
        let id = try #require(driver.state.entries.keys.first)
        driver.pending = []
        let effects = driver.state.startFailed(id, now: driver.now)
        #expect(effects.contains(.startFailed(1, id)))
        driver.apply(driver.state.removed(id, now: driver.now))
        #expect(driver.state.ledger.promised == .zero)
        driver.lease(2)
        driver.settle()
        #expect(driver.starts[2] == .cold)
    }

    @Test("where the operator only looks on, it is said once what would be shrunk, and nothing is")
    func observes() throws {
        var driver = Driver(budget: .gib(1))
        (driver.state.limits.reclaims, driver.state.limits.observes) = (false, true)
        driver.plan()
        for round in 1...2 {
            driver.call(LeaseToken(round))
            driver.pass(20)
            #expect(try driver.sandbox().phase == .idle)
            #expect(driver.decisions.count { $0.kind == .observe } == round)
        }
        #expect(!driver.decisions.contains { $0.kind == .shrink })
    }

    @Test("what is not shrunk is frozen after a while with all that it has, and a request thaws it")
    func freezes() throws {
        var driver = Driver(budget: .gib(1))
        driver.state.limits.reclaims = false
        driver.state.limits.freezeAfter = .seconds(8)
        driver.plan()
        driver.call(1)
        driver.pass(6)
        #expect(try !driver.state.mayFreeze(driver.sandbox().id))
        driver.pass(4)
        let id = try driver.sandbox().id
        #expect(driver.state.mayFreeze(id))
        #expect(driver.state.ledger.held(by: id) == .mib(100))
        driver.call(2)
        #expect(driver.starts[2] == .thawed)
        #expect(!driver.state.mayFreeze(id))
        #expect(driver.decisions.count { $0.kind == .freeze } == 1)
    }
}
