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

    private func walk(_ seed: UInt64, isMeasured: Bool) {
        var random = SplitMix(state: seed)
        var driver = Driver(
            budget: .mib(700),
            limits: PoolLimits(
                maxSandboxes: 8,
                idleAfter: .seconds(5),
                evictAfter: .seconds(60),
                isMeasured: isMeasured
            )
        )
        driver.isPrompt = false
        // One that outgrows its size, and one that takes three requests at once.
        for name in ["a", "b", "c", "d"] {
            let burst = name == "a" ? Bytes.mib(300) : .zero
            driver.plan(name, concurrency: 3, burst: burst, perSandbox: places(name))
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
                _ = driver.step(shrinkTo: size, compressed: size * 0.2, resists: random.next() % 10 == 0)
            case 6, 7:
                if let busy = driver.running.values.joined().min() { driver.finish(busy, observation(&random)) }
            case 8: driver.pass(random.next() % 500 == 0 ? 90_000 : Int64(random.next() % 4))  // a machine that slept
            case 9:
                // Mostly green, with bad spells.
                let available = random.next() % 6 == 0 ? random.next() % 150 : 300 + random.next() % 500
                driver.sense(.mib(Int64(available)), some: random.next() % 20 == 0 ? 0.1 : 0)
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
            driver.sense(.mib(700))
            driver.pass(1)
        }
        #expect(driver.state.waitingCount == 0)
        #expect(Set(1...token) == Set(driver.starts.keys).union(driver.refused.keys).union(driver.failed))
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
