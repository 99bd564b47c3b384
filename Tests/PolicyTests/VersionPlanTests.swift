// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("Versions in the pool")
struct VersionPlanTests {
    @Test("a version is a plan of its own: its sandboxes serve no other, and their names are names of hosts")
    func apart() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan("f")
        driver.plan("f:3")
        driver.call(1, "f:3")
        driver.call(2, "f")
        #expect(driver.starts == [1: .cold, 2: .cold])
        let id = try driver.sandbox("f:3").id.description
        #expect(id.hasPrefix("f-v3-") && !id.contains(":"))
        #expect(PlanName.function("f:3") == "f" && PlanName.version("f:3") == "3" && PlanName.version("f") == nil)
    }

    @Test("all versions of a function share its concurrency")
    func shared() {
        var driver = Driver(budget: .gib(1))
        for name in ["f", "f:1", "g"] { driver.plan(name, concurrency: 1) }
        driver.lease(1, "f")
        driver.lease(2, "f:1")
        driver.lease(3, "g")
        driver.settle()
        #expect(driver.starts.keys.sorted() == [1, 3])
        driver.pass(11)
        #expect(driver.refused[2] == .concurrency(limit: 1))
    }

    @Test("an idle sandbox of another version makes room within the function's concurrency; a provisioned one does not")
    func makesRoom() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan("f", concurrency: 1)
        driver.plan("f:1", concurrency: 1)
        driver.call(1, "f")
        driver.call(2, "f:1")
        #expect(driver.starts[2] == .cold)
        #expect(driver.state.live("f") == 0)
        driver.plan("f:1", concurrency: 1, provisioned: 1)
        try driver.end(driver.sandbox("f:1").id)
        driver.pass(1)
        driver.settle()
        driver.lease(3, "f")
        driver.pass(11)
        #expect(driver.refused[3] == .concurrency(limit: 1))
    }

    @Test("what is provisioned is started ahead beside what is there, taken first, and kept")
    func provisioned() throws {
        var driver = Driver(budget: .gib(1))
        driver.plan("f:1")
        driver.call(1, "f:1")
        driver.plan("f:1", provisioned: 2)
        #expect(driver.state.provisioning("f:1") == Provisioning())
        for _ in 0..<3 {
            driver.pass(1)
            driver.settle()
        }
        #expect(driver.state.provisioning("f:1") == Provisioning(started: 2, free: 2))
        #expect(driver.state.live("f:1") == 3)
        driver.lease(2, "f:1")
        #expect(driver.state.provisioning("f:1") == Provisioning(started: 2, free: 1))
        driver.finish(2)
        for _ in 0..<400 {
            driver.pass(10)
            driver.settle()
        }
        #expect(driver.state.entries.values.filter(\.isProvisioned).count == 2)
        #expect(driver.state.live("f:1") == 2, "the one that was not provisioned has gone")
        driver.plan("f:1", provisioned: 0)
        for _ in 0..<400 {
            driver.pass(10)
            driver.settle()
        }
        #expect(driver.state.live("f:1") == 0)
    }

    @Test("what cannot start is tried again later and later, and at once when it is changed")
    func pauses() {
        var driver = Driver(budget: .gib(1))
        driver.plan("f:1", provisioned: 1)
        var starts = 0
        for _ in 0..<120 {
            driver.pass(1)
            while let effect = driver.pending.first {
                driver.pending.removeFirst()
                guard case .start(let id, _, _) = effect else { continue }
                starts += 1
                driver.apply(driver.state.startFailed(id, now: driver.now))
                driver.apply(driver.state.removed(id, now: driver.now))
            }
        }
        #expect((5...8).contains(starts), "\(starts)")
        #expect(driver.state.provisioning("f:1").failures == starts)
        driver.plan("f:1", generation: 2, provisioned: 1)
        #expect(driver.state.provisioning("f:1").failures == 0)
        driver.pass(1)
        #expect(!driver.pending.isEmpty)
    }

    @Test("min_warm does not go beyond the function's concurrency")
    func minWarm() {
        var driver = Driver(budget: .gib(1))
        driver.plan("f", concurrency: 1, minWarm: 3)
        for _ in 0..<5 {
            driver.pass(1)
            driver.settle()
        }
        #expect(driver.state.live("f") == 1)
    }
}
