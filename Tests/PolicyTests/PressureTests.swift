// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("When the host hurts")
struct PressureTests {
    private func tier(_ available: Bytes, some: Double = 0, full: Double = 0) -> HostTier {
        var tracker = TierTracker()
        tracker.observe(HostSample(available: available, some: some, full: full), budget: .mib(1000), now: 0)
        return tracker.tier
    }

    @Test("tiers follow what is available, and stalls only where that is not plenty")
    func tiers() {
        #expect(tier(.mib(500)) == .green)
        #expect(tier(.mib(150)) == .yellow)
        #expect(tier(.mib(80)) == .orange)
        #expect(tier(.mib(40)) == .red)
        #expect(tier(.mib(300), some: 0.02) == .yellow)
        #expect(tier(.mib(300), some: 0.06) == .orange)
        #expect(tier(.mib(300), full: 0.03) == .red)
        #expect(tier(.mib(900), some: 0.5, full: 0.5) == .green, "somebody thrashes at its own limit")
    }

    @Test("how long tasks may wait is the operator's word")
    func thresholds() {
        func tier(some: Double = 0, full: Double = 0) -> HostTier {
            var tracker = TierTracker()
            let tuning = ReclaimTuning(someStop: 0.5, fullStop: 0.2)
            let sample = HostSample(available: .mib(300), some: some, full: full)
            tracker.observe(sample, budget: .mib(1000), tuning: tuning, now: 0)
            return tracker.tier
        }
        #expect(tier(some: 0.06) == .green && tier(some: 0.11) == .yellow && tier(some: 0.55) == .orange)
        #expect(tier(full: 0.1) == .green && tier(full: 0.25) == .red)
    }

    @Test("a tier rises at once and falls a step at a time, after five seconds that were better by a quarter")
    func hysteresis() {
        var tracker = TierTracker()
        func observe(_ available: Int64, at seconds: Int64) {
            tracker.observe(HostSample(available: .mib(available)), budget: .mib(1000), now: seconds * second)
        }
        observe(40, at: 0)
        #expect(tracker.tier == .red)
        observe(55, at: 1)
        observe(55, at: 9)
        #expect(tracker.tier == .red, "better, but not by a quarter")
        observe(900, at: 10)
        observe(900, at: 14)
        #expect(tracker.tier == .red)
        observe(900, at: 15)
        #expect(tracker.tier == .orange)
        observe(900, at: 20)
        observe(900, at: 25)
        #expect(tracker.tier == .green)
    }

    @Test("yellow shrinks the idle, orange evicts shrunk ones one at a time, red all that are idle; busy ones stay")
    func relief() {
        var driver = Driver(budget: .mib(1000))
        for name in ["a", "b", "c", "d"] {
            driver.plan(name)
            driver.call(LeaseToken(name.unicodeScalars.first?.value ?? 0), name)
        }
        driver.lease(1, "d")
        driver.sense(.mib(150))
        driver.settle()
        let shrunk = driver.state.entries.values.filter { $0.phase == .shrunk }
        #expect(!shrunk.isEmpty)
        #expect(driver.state.entries.count == 4)
        driver.sense(.mib(90))
        driver.settle()
        #expect(driver.state.entries.count == 3)
        driver.sense(.mib(20))
        driver.settle()
        #expect(Array(driver.state.entries.values.map(\.function)) == ["d"])
        #expect(driver.running.values.contains([1]))
        #expect(driver.decisions.contains { $0.kind == .tier && $0["available_bytes"] == Bytes.mib(20).count })
    }

    @Test("red refuses growth at once, with the numbers; what needs none is served")
    func refusal() {
        var driver = Driver(budget: .mib(1000))
        driver.plan("f")
        driver.plan("g")
        driver.lease(1)
        driver.settle()
        driver.sense(.mib(30))
        driver.lease(2, "g")
        #expect(driver.refused[2] == .hostPressure(wanted: .mib(100), available: .mib(30)))
        driver.finish(1)
        driver.lease(3)
        #expect(driver.starts[3] == .warm)
    }

    @Test("after the hog has gone the same requests are served again")
    func recovery() {
        var driver = Driver(budget: .mib(1000))
        driver.plan()
        driver.sense(.mib(30))
        driver.lease(1)
        #expect(driver.refused[1] != nil)
        for step in 1...30 {
            driver.now += second
            driver.sense(.mib(900))
            if step == 30 { #expect(driver.state.tier == .green) }
        }
        driver.lease(2)
        driver.settle()
        #expect(driver.starts[2] == .cold)
    }

    @Test("nothing is started where the ledger has room and the host has not")
    func admission() {
        var driver = Driver(budget: .gib(4))
        driver.plan(memory: .gib(1))
        driver.sense(.mib(1200))
        driver.lease(1)
        #expect(driver.state.entries.isEmpty)
        driver.sense(.gib(3))
        #expect(driver.state.entries.count == 1)
    }
}
