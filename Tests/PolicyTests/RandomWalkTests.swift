// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("A hundred thousand random events")
struct RandomWalkTests {
    @Test(
        "nothing is promised or leased twice, no limit passes its promise, and every request ends",
        arguments: [1, 2, 3] as [UInt64]
    )
    func strict(seed: UInt64) { walk(seed, isMeasured: false) }

    @Test("the same where busy sandboxes are charged what they have needed", arguments: [4] as [UInt64])
    func measured(seed: UInt64) { walk(seed, isMeasured: true) }

    @Test(
        "the same with room for prewarmed sandboxes, where requests wait and where they do not",
        arguments: [5, 6] as [UInt64]
    )
    func prewarmed(seed: UInt64) {
        let isCalm = seed == 5
        let driver = walk(seed, isMeasured: false, budget: .mib(2100), sandboxes: 16, isCalm: isCalm)
        #expect(driver.assigned > (isCalm ? 20 : 0))
    }

    @discardableResult
    private func walk(
        _ seed: UInt64,
        isMeasured: Bool,
        budget: Bytes = .mib(700),
        sandboxes: Int = 8,
        isCalm: Bool = false
    ) -> Driver {
        var random = SplitMix(state: seed)
        var driver = Driver(
            budget: budget,
            limits: PoolLimits(
                maxSandboxes: sandboxes,
                idleAfter: .seconds(5),
                evictAfter: .seconds(60),
                isMeasured: isMeasured,
                prewarmedMost: 3
            )
        )
        driver.isPrompt = false
        driver.plan("@r", memory: .mib(64))
        // One that outgrows its size, one that takes three requests at once, and two of a runtime that is prewarmed.
        for name in ["a", "b", "c", "d"] {
            let burst = name == "a" ? Bytes.mib(300) : .zero
            let prewarmed = name == "c" || name == "d" ? "@r" : nil
            driver.plan(name, concurrency: 3, burst: burst, perSandbox: places(name), prewarmed: prewarmed)
        }
        var token: LeaseToken = 0
        for _ in 0..<35_000 {
            driver.used = .mib(Int64(random.next() % 120))
            switch random.next() % 12 {
            case 0...2:
                token += 1
                let name = ["a", "b", "c", "d"][Int(random.next() % 4)]
                driver.lease(
                    token,
                    name,
                    memory: random.next() % 4 == 0 ? .mib(Int64(random.next() % 300) + 4) : nil,
                    fresh: random.next() % 20 == 0
                )
            case 3...5:
                let size = Bytes.mib(Int64(random.next() % 60) + 4)
                driver.isLate = random.next() % 3 == 0
                _ = driver.step(shrinkTo: size, compressed: size * 0.2, resists: random.next() % 10 == 0)
            case 6, 7:
                // Where everybody finishes in time nobody waits for long, and there is room to start ahead.
                for busy in driver.running.values.joined().sorted().prefix(isCalm ? .max : 1) {
                    driver.finish(busy, observation(&random))
                }
            case 8: driver.pass(random.next() % 500 == 0 ? 90_000 : Int64(random.next() % 4))  // a machine that slept
            case 9:
                driver.hear()
                // Mostly green, with bad spells.
                let available = random.next() % 6 == 0 ? random.next() % 150 : 300 + random.next() % 500
                let scale = Int64(budget.count) / Bytes.mib(700).count
                driver.sense(.mib(Int64(available) * scale), some: random.next() % 20 == 0 ? 0.1 : 0)
            case 10:
                if let id = driver.running.keys.randomElement(using: &random), let limit = driver.kernel[id] {
                    driver.apply(driver.state.used(id, limit * 0.9, now: driver.now))
                }
            default:
                if random.next() % 8 == 0, let id = driver.state.entries.keys.randomElement(using: &random) {
                    driver.pending.removeAll { if case .stop(id, _) = $0 { true } else { false } }
                    driver.end(id)
                } else if random.next() % 8 == 0 {
                    driver.plan("a", memory: .mib(Int64(random.next() % 150) + 20), concurrency: 3, burst: .mib(300))
                }
            }
            check(driver, isMeasured)
        }
        // Everybody finishes, nobody new comes: every request has ended one way or the other.
        driver.used = .zero
        for _ in 0..<200 {
            driver.settle()
            for busy in driver.running.values.joined() { driver.finish(busy) }
            driver.sense(budget)
            driver.pass(1)
        }
        #expect(driver.state.waitingCount == 0)
        #expect(Set(1...token) == Set(driver.starts.keys).union(driver.refused.keys).union(driver.failed))
        return driver
    }

    private func places(_ function: String) -> Int { function == "b" ? 3 : 1 }

    private func observation(_ random: inout SplitMix) -> CallObservation {
        CallObservation(
            duration: .milliseconds(Int64(random.next() % 50)),
            peak: .mib(Int64(random.next() % 90) + 5),
            refaultedPages: Int64(random.next() % 9000),
            current: .mib(Int64(random.next() % 60) + 5)
        )
    }

    private func check(_ driver: Driver, _ isMeasured: Bool) {
        let ledger = driver.state.ledger
        #expect(ledger.promised <= ledger.budget)
        #expect(ledger.promised == ledger.promises.values.reduce(.zero, +))
        #expect(Set(ledger.promises.keys) == Set(driver.state.entries.keys))
        for (id, tokens) in driver.running {
            let entry = driver.state.entries[id]
            #expect(entry?.phase == .busy, "a busy sandbox was taken")
            #expect(PlanName.runtime(entry?.function ?? "") == nil, "a request runs in no function's sandbox")
            #expect(entry?.running == tokens.count && tokens.count <= places(entry?.function ?? ""))
        }
        for entry in driver.state.entries.values where entry.phase == .busy {
            #expect(driver.running[entry.id] != nil, "\(entry.id) is busy with nothing")
        }
        guard !isMeasured else { return }
        for (id, limit) in driver.kernel {
            #expect(limit <= ledger.held(by: id), "\(id): the kernel's limit is above its promise")
        }
    }
}
