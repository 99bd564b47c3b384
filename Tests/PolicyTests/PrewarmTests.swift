// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("Prewarmed sandboxes")
struct PrewarmTests {
    private func driver(most: Int = 4, budget: Bytes = .gib(1)) -> Driver {
        var driver = Driver(budget: budget, limits: PoolLimits(prewarmedMost: most))
        driver.plan("@python", memory: .mib(64))
        for name in ["f", "g"] { driver.plan(name, memory: .mib(100), prewarmed: "@python") }
        return driver
    }

    /// After a call of `g` whose sandbox has gone: one is wanted, and none is there yet.
    private func wanting(budget: Bytes = .gib(1)) -> Driver {
        var driver = driver(budget: budget)
        driver.call(100, "g")
        for id in Array(driver.running.keys) { driver.end(id) }
        for entry in driver.state.entries.values { driver.end(entry.id) }
        return driver
    }

    private func ready(_ driver: Driver) -> [PoolState.Entry] {
        driver.state.entries.values.filter { $0.function == "@python" && $0.phase != .stopping }
    }

    @Test("none is made before anybody needed one, and none where the operator wants none")
    func learnt() {
        var none = driver()
        none.pass(1)
        none.settle()
        #expect(ready(none).isEmpty)
        var off = driver(most: 0)
        off.call(1, "f")
        off.pass(1)
        off.settle()
        #expect(ready(off).isEmpty)
    }

    @Test(
        "what a start costs is learnt from whole ones: of a program, whose all comes after it was assigned, from those too"
    )
    func costs() throws {
        for isWhole in [false, true] {
            var driver = driver()
            driver.plan("h", memory: .mib(100), prewarmed: "@python", startsWhole: isWhole)
            driver.call(1, "f")
            for _ in 0..<3 {
                driver.pass(1)
                driver.settle()
            }
            driver.lease(2, "h")
            driver.settle()
            #expect(driver.starts[2] == .prewarmed)
            #expect((driver.state.profiles["h"]?.coldStart != nil) == isWhole)
        }
    }

    @Test("after a start one is kept, frozen at what it holds, and any function of the runtime gets it at its own size")
    func assigned() throws {
        var driver = driver()
        driver.call(1, "f")
        #expect(driver.starts[1] == .cold)
        for _ in 0..<3 {
            driver.pass(1)
            driver.settle()
        }
        let prewarmed = try #require(ready(driver).first)
        #expect(prewarmed.phase == .shrunk && prewarmed.order.depth == 0)
        driver.lease(2, "g", memory: .mib(300))
        driver.settle()
        #expect(driver.starts[2] == .prewarmed)
        #expect(driver.contracts[2] == .mib(300))
        #expect(driver.running[prewarmed.id] == [2])
        #expect(driver.state.entries[prewarmed.id]?.function == "g")
        #expect(driver.state.ledger.held(by: prewarmed.id) == .mib(300))
        driver.finish(2)
        driver.lease(3, "g")
        driver.settle()
        #expect(driver.starts[3] == .warm && driver.running[prewarmed.id] == [3])
    }

    @Test("a request that wants a sandbox of its own start gets none")
    func fresh() {
        var driver = wanting()
        driver.pass(1)
        driver.settle()
        driver.lease(1, "f", fresh: true)
        driver.settle()
        #expect(driver.starts[1] == .cold)
    }

    @Test("a burst is remembered up to the operator's most, and forgotten with time")
    func burst() {
        var driver = driver(most: 3, budget: .gib(4))
        for token in 1...6 { driver.lease(LeaseToken(token), "f") }
        driver.settle()
        for token in 1...6 { driver.finish(LeaseToken(token)) }
        for _ in 0..<10 {
            driver.pass(1)
            driver.settle()
        }
        #expect(ready(driver).count == 3)
        for _ in 0..<400 {
            driver.pass(10)
            driver.settle()
        }
        #expect(ready(driver).isEmpty)
    }

    @Test("it is the first to go when a request needs its memory")
    func room() throws {
        var driver = wanting(budget: .mib(400))
        driver.pass(1)
        driver.settle()
        driver.plan("big", memory: .mib(390))
        let prewarmed = try #require(ready(driver).first)
        driver.lease(1, "big")
        driver.settle()
        #expect(driver.starts[1] == .cold)
        #expect(driver.state.entries[prewarmed.id] == nil)
        #expect(driver.decisions.contains { $0.kind == .evict && $0.sandbox == prewarmed.id })
    }

    @Test("there is none while the host is short of memory, and none takes the last quarter of the budget")
    func pressure() {
        var short = wanting()
        short.pass(1)
        short.settle()
        #expect(ready(short).count == 1)
        for _ in 0..<10 {
            short.now += second
            short.sense(.mib(20), some: 0.5, full: 0.3)
        }
        short.settle()
        #expect(ready(short).isEmpty)
        var full = driver(budget: .mib(200))
        full.lease(1, "f", memory: .mib(120))
        full.settle()
        full.pass(1)
        full.settle()
        #expect(ready(full).isEmpty)
    }

    @Test("one that would have to be lowered first is not taken")
    func small() {
        var driver = wanting()
        driver.pass(1)  // started and not frozen yet: it holds all of its 64 MiB
        _ = driver.step()
        driver.lease(1, "f", memory: .mib(32))
        driver.settle()
        #expect(driver.starts[1] == .cold)
    }

    @Test("a runtime that cannot start is not started over and over")
    func broken() {
        var driver = wanting()
        var tries = 0
        for _ in 0..<20 {
            driver.pass(1)
            let starting = ready(driver)
            tries += starting.count
            driver.pending = []
            for entry in starting { driver.end(entry.id) }
        }
        #expect(tries >= 2 && tries <= 6)
    }

    @Test("a runtime that has a word of its own keeps to it, whatever is said of all")
    func byRuntime() {
        let limits = PoolLimits(prewarmedMost: 3, prewarmedMostByRuntime: ["python": 1, "node": 0])
        #expect(["python", "node", "other"].map { limits.prewarmedMost(of: PlanName.prewarmed($0)) } == [1, 0, 3])
        #expect(limits.prewarms && !PoolLimits(prewarmedMostByRuntime: ["node": 0]).prewarms)
    }
}
