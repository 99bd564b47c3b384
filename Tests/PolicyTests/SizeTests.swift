// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("Sizes that move")
struct SizeTests {
    @Test("a request may want less than its sandbox has, runs at that, and the sandbox has its size back after it")
    func smaller() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.call(1)
        driver.lease(2, memory: .mib(40))
        #expect(driver.contracts[2] == .mib(40))
        #expect(driver.state.ledger.promised == .mib(40))
        driver.finish(2)
        driver.settle()
        #expect(try driver.kernel[driver.sandbox().id] == .mib(100))
    }

    @Test("what does not fit into the smaller size runs with what it has, and that is said")
    func smallerDoesNotFit() {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.call(1)
        driver.used = .mib(60)
        driver.lease(2, memory: .mib(40))
        #expect(driver.contracts[2] == .mib(100))
        #expect(driver.state.ledger.promised == .mib(100))
        #expect(driver.decisions.contains { $0.kind == .pending })
    }

    @Test("a call that outgrows its size gets more in steps, up to its burst, and gives it back when it parks")
    func burst() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan(burst: .mib(200))
        driver.lease(1)
        driver.settle()
        let id = try driver.sandbox().id
        driver.apply(driver.state.used(id, .mib(30), now: driver.now))
        #expect(driver.pending.isEmpty, "far below its limit")
        for use in [75, 105, 140, 180, 199] {
            driver.apply(driver.state.used(id, .mib(Int64(use)), now: driver.now))
            driver.settle()
            #expect(try #require(driver.kernel[id]) > .mib(Int64(use)))
        }
        #expect(driver.kernel[id] == .mib(200))
        let steps = driver.decisions.filter { $0.kind == .grow }
        #expect(steps.count >= 3)
        #expect(steps.allSatisfy { $0["burst_bytes"] == Bytes.mib(200).count })
        driver.finish(1)
        driver.settle()
        #expect(driver.kernel[id] == .mib(100))
        #expect(driver.state.ledger.promised == .mib(100))
    }

    @Test("how soon and in which steps a call gets more is the operator's word")
    func burstSteps() throws {
        func first(_ use: Bytes, _ tuning: ReclaimTuning) throws -> Bytes? {
            var driver = Driver(budget: .gib(8))
            driver.state.limits.tuning = tuning
            driver.plan(memory: .mib(400), burst: .gib(2))
            driver.lease(1)
            driver.settle()
            let id = try driver.sandbox().id
            driver.apply(driver.state.used(id, use, now: driver.now))
            driver.settle()
            return driver.kernel[id]
        }
        #expect(try first(.mib(310), ReclaimTuning()) == .mib(500))
        #expect(try first(.mib(310), ReclaimTuning(growHeadroom: 0.1)) == .mib(400))
        #expect(try first(.mib(370), ReclaimTuning(growHeadroom: 0.1, growStep: 0.5)) == .mib(600))
        #expect(try first(.mib(310), ReclaimTuning(growStep: 0.01)) == .mib(432), "32 MiB at least")
    }

    @Test("a burst that the ledger has not got makes others give, and until then the contract holds")
    func burstWithoutRoom() throws {
        var driver = Driver(budget: .mib(220))
        driver.plan("idle")
        driver.plan("grows", burst: .mib(200))
        driver.call(1, "idle")
        driver.lease(2, "grows")
        driver.settle()
        let id = try driver.sandbox("grows").id
        driver.apply(driver.state.used(id, .mib(90), now: driver.now))
        #expect(driver.kernel[id] == .mib(100))
        driver.settle()
        driver.apply(driver.state.used(id, .mib(90), now: driver.now))
        driver.settle()
        #expect(try #require(driver.kernel[id]) > .mib(100))
        #expect(driver.state.flows[MemoryFlow(from: "idle", to: "grows")] == .mib(90))
    }

    @Test("where promises are measured, more sandboxes fit than contracts would")
    func measured() {
        func sandboxes(_ isMeasured: Bool) -> Int {
            var driver = Driver(budget: .mib(600), limits: PoolLimits(reclaims: false, isMeasured: isMeasured))
            driver.plan()
            for token in 1...20 {
                driver.call(LeaseToken(token), "f", CallObservation(duration: .milliseconds(5), peak: .mib(20)))
            }
            for token in 100...120 { driver.lease(LeaseToken(token)) }
            driver.settle()
            return driver.running.count
        }
        #expect(sandboxes(false) == 6)
        #expect(sandboxes(true) >= 12)
    }

    @Test("a measured sandbox that needs more than was learnt is charged more while it runs")
    func measuredGrowth() throws {
        var driver = Driver(budget: .mib(600), limits: PoolLimits(isMeasured: true))
        driver.plan()
        for token in 1...20 {
            driver.call(LeaseToken(token), "f", CallObservation(duration: .milliseconds(5), peak: .mib(20)))
        }
        driver.lease(50)
        let id = try driver.sandbox().id
        let before = driver.state.ledger.held(by: id)
        driver.apply(driver.state.used(id, .mib(60), now: driver.now))
        #expect(driver.state.ledger.held(by: id) > before)
        #expect(driver.state.ledger.held(by: id) <= .mib(100))
    }

    @Test("a shallow shrink is asked for the rest before anybody is evicted")
    func deepen() throws {
        var driver = Driver(budget: .mib(210))
        driver.plan("slow")
        driver.plan("new", memory: .mib(150))
        driver.call(1, "slow")
        for token in 2...4 {
            driver.pass(3600)
            _ = driver.step(shrinkTo: .mib(80))
            let costly = CallObservation(
                duration: .milliseconds(500),
                peak: .mib(90),
                refaultedPages: 9000,
                current: .mib(80)
            )
            driver.lease(LeaseToken(token), "slow")
            driver.finish(LeaseToken(token), costly)
        }
        driver.pass(3600)
        _ = driver.step(shrinkTo: .mib(80))
        #expect(try driver.sandbox("slow").phase == .shrunk)
        driver.lease(9, "new")
        #expect(
            driver.pending.first.map { if case .shrink(_, let order) = $0 { order.depth == 1 } else { false } } == true
        )
        while driver.step(shrinkTo: .mib(20)) {}
        #expect(driver.starts[9] == .cold)
        #expect(driver.state.entries.count == 2)
    }

    @Test("every request, start, shrink and refusal is explained, under the id that its caller gave")
    func explained() {
        var driver = Driver(budget: .mib(250))
        driver.plan()
        driver.call(1)
        driver.pass(6)
        driver.settle()
        driver.call(2)
        driver.lease(3, memory: .mib(999))
        let kinds = driver.decisions.map(\.kind)
        for kind in [Decision.Kind.start, .run, .shrink, .shrunk, .refuse] { #expect(kinds.contains(kind)) }
        #expect(driver.decisions.first { $0.kind == .run }?.request == "r1")
        #expect(driver.decisions.first { $0.kind == .refuse }?.request == "r3")
        #expect(driver.decisions.first { $0.kind == .shrunk }?["given_back_bytes"] == Bytes.mib(90).count)
    }

    @Test("a regular function is made ready before its next request, and let go again if none comes")
    func prepare() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan()
        driver.callRegularly()
        driver.call(99)
        var wasReady = false
        for _ in 0..<60 {
            driver.pass(10)
            driver.settle()
            if try driver.kernel[driver.sandbox().id] == .mib(100), try driver.sandbox().phase == .shrunk {
                wasReady = true
            }
        }
        #expect(wasReady)
        #expect(try driver.kernel[driver.sandbox().id] == .mib(10))
    }

    @Test("one that has no sandbox left is started before its next request, once, and only from what is free")
    func startAhead() throws {
        var driver = Driver(budget: .mib(150))
        driver.plan()
        driver.plan("other")
        driver.callRegularly()
        driver.call(97)
        driver.end(try driver.sandbox().id)
        driver.pass(200)
        #expect(driver.state.entries.isEmpty)
        for _ in 0..<15 where driver.state.entries.isEmpty { driver.pass(10) }
        driver.settle()
        let id = try driver.sandbox().id
        #expect(driver.decisions.contains { $0.kind == .start && $0.reason.hasPrefix("its next request is expected") })
        driver.pass(1)
        driver.lease(98)
        #expect(driver.starts[98] == .prewarmed)
        driver.finish(98)

        // Somebody else holds the room: no guess takes it away.
        driver.end(id)
        driver.lease(99, "other")
        driver.settle()
        for _ in 0..<33 { driver.pass(10) }
        #expect(driver.state.entries.count == 1)

        // A sandbox that ended unused is not started again for the same guess.
        driver.finish(99)
        driver.end(try driver.sandbox("other").id)
        driver.pass(2)
        driver.settle()
        driver.end(try driver.sandbox().id)
        driver.pass(2)
        #expect(driver.state.entries.isEmpty)
    }
}
