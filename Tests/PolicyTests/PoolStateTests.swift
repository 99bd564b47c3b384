// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

private let second: Instant = 1_000_000_000

/// Plays the driver: does at once what the state asks, and remembers who got what.
private struct Driver {
    var state: PoolState
    var now: Instant = 0
    var running: [SandboxID: LeaseToken] = [:]
    var starts: [LeaseToken: StartKind] = [:]
    var refused: [LeaseToken: PoolRefusal] = [:]
    var failed: Set<LeaseToken> = []
    var pending: [PoolEffect] = []

    init(budget: Bytes, limits: PoolLimits = PoolLimits()) {
        state = PoolState(budget: budget, limits: limits, epoch: "t")
    }

    mutating func apply(_ effects: [PoolEffect]) {
        _ = state.takeJournal()
        for effect in effects {
            switch effect {
            case .run(let token, let id, let kind, _):
                #expect(running[id] == nil, "a sandbox was leased twice")
                #expect(starts[token] == nil, "a request was served twice")
                running[id] = token
                starts[token] = kind
            case .refuse(let token, let why): refused[token] = why
            case .startFailed(let token, _): failed.insert(token)
            default: pending.append(effect)
            }
        }
    }

    mutating func lease(_ token: LeaseToken, _ function: String = "f", memory: Bytes? = nil, fresh: Bool = false) {
        let request = LeaseRequest(
            token: token,
            function: function,
            memory: memory,
            fresh: fresh,
            giveUpAt: now + 10 * second
        )
        apply(state.lease(request, now: now))
    }

    /// Carries out the oldest thing that was asked for; `false` when there is nothing.
    mutating func step(shrinkTo size: Bytes = .mib(10)) -> Bool {
        guard !pending.isEmpty else { return false }
        switch pending.removeFirst() {
        case .start(let id, _, _): apply(state.started(id, now: now))
        case .shrink(let id, _):
            let limit = min(size, state.ledger.held(by: id))
            apply(state.shrunk(id, Shrink(before: limit, after: limit, limit: limit), now: now))
        case .stop(let id, _):
            running[id] = nil
            apply(state.exited(id, now: now))
            apply(state.removed(id, now: now))
        case .lower(let id, let size): apply(state.lowered(id, to: size, wanted: size, now: now))
        default: break
        }
        return true
    }

    mutating func settle() { while step() {} }

    mutating func finish(_ token: LeaseToken) {
        guard let id = running.first(where: { $0.value == token })?.key else { return }
        running[id] = nil
        apply(state.finished(id, now: now))
    }

    mutating func pass(_ seconds: Int64) {
        now += seconds * second
        apply(state.tick(now: now))
    }

    mutating func plan(_ name: String = "f", memory: Bytes = .mib(100), concurrency: Int = 100, generation: Int = 1) {
        apply(
            state.setPlan(
                FunctionPlan(name: name, generation: generation, memory: memory, concurrency: concurrency),
                now: now
            )
        )
    }
}

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
        // The shrink's end comes late and must change nothing.
        driver.apply(driver.state.shrunk(id, Shrink(limit: .mib(1)), now: driver.now))
        #expect(driver.state.ledger.held(by: id) == .mib(100))
        #expect(driver.state.entries[id]?.phase == .busy(2))
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
        #expect(driver.running.values.contains(1))
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

    @Test(
        "a hundred thousand random events: nothing is promised or leased twice, and every request ends",
        arguments: [1, 2, 3] as [UInt64]
    )
    func randomWalk(seed: UInt64) {
        var random = SplitMix(state: seed)
        var driver = Driver(
            budget: .mib(700),
            limits: PoolLimits(maxSandboxes: 8, idleAfter: .seconds(5), evictAfter: .seconds(60))
        )
        for name in ["a", "b", "c", "d"] { driver.plan(name, concurrency: 3) }
        var token: LeaseToken = 0
        for _ in 0..<35_000 {
            switch random.next() % 10 {
            case 0...2:
                token += 1
                let name = ["a", "b", "c", "d"][Int(random.next() % 4)]
                driver.lease(
                    token,
                    name,
                    memory: random.next() % 4 == 0 ? .mib(Int64(random.next() % 300) + 4) : nil,
                    fresh: random.next() % 20 == 0
                )
            case 3...5: _ = driver.step(shrinkTo: .mib(Int64(random.next() % 60) + 4))
            case 6, 7: if let busy = driver.running.values.sorted().first { driver.finish(busy) }
            case 8: driver.pass(Int64(random.next() % 4))
            default:
                if random.next() % 8 == 0, let id = driver.state.entries.keys.randomElement(using: &random) {
                    driver.running[id] = nil
                    driver.pending.removeAll { if case .stop(id, _) = $0 { true } else { false } }
                    driver.apply(driver.state.exited(id, now: driver.now))
                    driver.apply(driver.state.removed(id, now: driver.now))
                } else if random.next() % 8 == 0 {
                    driver.plan("a", memory: .mib(Int64(random.next() % 150) + 20), concurrency: 3)
                }
            }
            check(driver)
        }
        // Everybody finishes, nobody new comes: every request has ended one way or the other.
        for _ in 0..<200 {
            driver.settle()
            for busy in driver.running.values { driver.finish(busy) }
            driver.pass(1)
        }
        #expect(driver.state.waitingCount == 0)
        #expect(Set(1...token) == Set(driver.starts.keys).union(driver.refused.keys).union(driver.failed))
    }

    private func check(_ driver: Driver) {
        let ledger = driver.state.ledger
        #expect(ledger.promised <= ledger.budget)
        #expect(ledger.promised == ledger.promises.values.reduce(.zero, +))
        #expect(Set(ledger.promises.keys) == Set(driver.state.entries.keys))
        for (id, token) in driver.running {
            #expect(driver.state.entries[id]?.phase == .busy(token), "a busy sandbox was taken")
        }
    }
}

/// A small generator that gives the same walk for the same seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
