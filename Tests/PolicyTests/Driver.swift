// SPDX-License-Identifier: Apache-2.0
import OrderedCollections
import Testing
import Units

@testable import Policy

let second: Instant = 1_000_000_000

/// Plays the driver and the kernel: does what the state asks, and remembers who got what and which limit is written.
struct Driver {
    var state: PoolState
    var now: Instant = 0
    /// In an order that hashing has no part in: a seed is to give the same walk every time.
    var running: OrderedDictionary<SandboxID, [LeaseToken]> = [:]
    var starts: [LeaseToken: StartKind] = [:]
    var contracts: [LeaseToken: Bytes] = [:]
    var refused: [LeaseToken: PoolRefusal] = [:]
    var failed: Set<LeaseToken> = []
    var pending: [PoolEffect] = []
    var decisions: [Decision] = []
    /// How many prewarmed sandboxes became a function's.
    var assigned = 0
    /// `memory.max`, as the kernel has it.
    var kernel: [SandboxID: Bytes] = [:]
    /// Whether wakes are done at once, or wait their turn with everything else.
    var isPrompt = true
    /// Whether shrinks are told of later than they are done, and those that have not been told of yet.
    var isLate = false
    var late: [(id: SandboxID, shrink: Shrink, order: ShrinkOrder)] = []
    /// What a lowering finds in use; it stops there.
    var used = Bytes.zero

    init(budget: Bytes, limits: PoolLimits = PoolLimits()) {
        state = PoolState(budget: budget, limits: limits, epoch: "t")
    }

    mutating func apply(_ effects: [PoolEffect]) {
        decisions = Array((decisions + state.takeJournal()).suffix(200))
        for effect in effects {
            switch effect {
            case .run(let token, let id, let kind, let contract):
                #expect(running[id] == nil, "a sandbox was leased twice")
                #expect(starts[token] == nil, "a request was served twice")
                running[id] = [token]
                starts[token] = kind
                if isPrompt { wake(token, id, contract) } else { pending.append(effect) }
            case .join(let token, let id):
                #expect(running[id]?.isEmpty == false, "a request joined where none runs")
                #expect(starts[token] == nil, "a request was served twice")
                running[id]?.append(token)
                starts[token] = .warm
                contracts[token] = kernel[id]
            case .refuse(let token, let why): refused[token] = why
            case .startFailed(let token, _): failed.insert(token)
            case .assign:
                assigned += 1
                pending.append(effect)
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
            giveUpAt: now + 10 * second,
            label: "r\(token)"
        )
        apply(state.lease(request, now: now))
    }

    /// Raises for a request, or lowers first where that wants less than its sandbox has.
    private mutating func wake(_ token: LeaseToken, _ id: SandboxID, _ contract: Bytes) {
        guard running[id]?.contains(token) == true else { return }
        if let limit = kernel[id], limit > contract { lower(id, to: contract) }
        kernel[id] = max(kernel[id] ?? .zero, contract)
        contracts[token] = kernel[id]
        state.woken(id)
    }

    private mutating func lower(_ id: SandboxID, to size: Bytes) {
        guard let limit = kernel[id] else { return }
        if size < limit, size >= used { kernel[id] = size }
        apply(state.lowered(id, to: kernel[id] ?? limit, wanted: size, now: now))
    }

    /// Carries out the oldest thing that was asked for; `false` when there is nothing.
    mutating func step(shrinkTo size: Bytes = .mib(10), compressed: Bytes = .zero, resists: Bool = false) -> Bool {
        guard !pending.isEmpty else { return false }
        switch pending.removeFirst() {
        case .start(let id, _, let contract):
            guard state.entries[id] != nil else { break }
            kernel[id] = contract
            apply(state.started(id, now: now))
        case .assign(let id, _, let contract):
            guard state.entries[id] != nil else { break }
            kernel[id] = max(kernel[id] ?? .zero, contract)
            apply(state.started(id, now: now))
        case .shrink(let id, let order):
            guard state.stands(order, for: id), let limit = kernel[id] else { break }
            if resists {
                apply(state.shrinkStopped(id, "it would not freeze", by: order, now: now))
                break
            }
            kernel[id] = min(size, limit)
            let shrink = Shrink(before: limit, after: min(size, limit), compressed: compressed, limit: min(size, limit))
            late.append((id, shrink, order))
            if !isLate { hear() }
        case .stop(let id, _): end(id)
        case .lower(let id, let size): lower(id, to: size)
        case .raise(let id, let size), .prepare(let id, let size):
            if let limit = kernel[id], state.mayRaise(id, to: size) { kernel[id] = max(limit, size) }
        case .run(let token, let id, _, let contract): wake(token, id, contract)
        default: break
        }
        return true
    }

    /// What was done and not told of yet is told.
    mutating func hear() {
        while !late.isEmpty {
            let (id, shrink, order) = late.removeFirst()
            apply(state.shrunk(id, shrink, by: order, now: now))
        }
    }

    mutating func settle() {
        for _ in 0..<10_000 where !step() {
            if late.isEmpty { return }
            hear()
        }
        Issue.record("it does not come to rest: \(decisions.suffix(12).map { "\($0)" }.joined(separator: "\n"))")
        pending = []
    }

    mutating func end(_ id: SandboxID) {
        running[id] = nil
        apply(state.exited(id, now: now))
        kernel[id] = nil
        apply(state.removed(id, now: now))
    }

    mutating func finish(_ token: LeaseToken, _ call: CallObservation? = nil) {
        guard let id = running.first(where: { $0.value.contains(token) })?.key else { return }
        while pending.contains(where: { if case .run(token, _, _, _) = $0 { true } else { false } }) { _ = step() }
        guard running[id]?.contains(token) == true else { return }
        running[id]?.removeAll { $0 == token }
        if running[id] == [] { running[id] = nil }
        apply(state.finished(id, call, now: now))
    }

    mutating func pass(_ seconds: Int64) {
        now += seconds * second
        apply(state.tick(now: now))
    }

    mutating func sense(_ available: Bytes, some: Double = 0, full: Double = 0) {
        apply(state.sensed(HostSample(available: available, some: some, full: full), now: now))
    }

    mutating func plan(
        _ name: String = "f",
        memory: Bytes = .mib(100),
        concurrency: Int = 100,
        generation: Int = 1,
        minWarm: Int = 0,
        provisioned: Int = 0,
        burst: Bytes = .zero,
        perSandbox: Int = 1,
        prewarmed: String? = nil,
        startsWhole: Bool = false
    ) {
        let plan = FunctionPlan(
            name: name,
            generation: generation,
            memory: memory,
            concurrency: concurrency,
            minWarm: minWarm,
            provisioned: provisioned,
            burst: burst,
            perSandbox: perSandbox,
            prewarmed: prewarmed,
            startsWhole: startsWhole
        )
        apply(state.setPlan(plan, now: now))
    }

    /// One call from start to end.
    mutating func call(_ token: LeaseToken, _ function: String = "f", _ observation: CallObservation? = nil) {
        lease(token, function)
        settle()
        finish(token, observation)
        settle()
    }

    /// Fifteen requests, one every five minutes.
    mutating func callRegularly() {
        for token in 1...15 {
            call(LeaseToken(token))
            for _ in 0..<30 {
                pass(10)
                settle()
            }
        }
    }

    /// The only sandbox of a function.
    func sandbox(_ function: String = "f") throws -> PoolState.Entry {
        let found = state.entries.values.filter { $0.function == function }
        try #require(found.count == 1)
        return found[0]
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
