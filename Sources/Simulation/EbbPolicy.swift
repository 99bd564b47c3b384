// SPDX-License-Identifier: Apache-2.0
import Policy
import Units

/// Ebb's own decisions, by the code that the daemon runs, under a virtual clock. The kernel is played by `Costs`.
package struct EbbPolicy: Sendable {
    private enum Event {
        case started(SandboxID)
        case finished(SandboxID)
        case shrunk(SandboxID, Double, ShrinkOrder)
        case removed(SandboxID)
        case tick
    }

    private let costs: Costs
    private let limits: PoolLimits

    package init(costs: Costs = Costs(), limits: PoolLimits = PoolLimits(maxSandboxes: 1_000_000)) {
        self.costs = costs
        self.limits = limits
    }

    package func run(_ trace: Trace, memory: Bytes, onProgress: (Double) -> Void = { _ in }) -> Outcome {
        var run = Run(trace: trace, costs: costs, state: PoolState(budget: memory, limits: limits, epoch: "s"))
        return run.play(onProgress)
    }

    /// One replay.
    private struct Run {
        let trace: Trace
        let costs: Costs
        var state: PoolState
        var outcome = Outcome(policy: "Ebb")
        var events: [Int: Event] = [:]
        var queue = Heap()
        var serial = 0
        var now = 0.0
        /// Memory of what runs, by sandbox.
        var busy: [SandboxID: Double] = [:]
        var busyBytes = 0.0
        var open = 0
        var calls: [LeaseToken: Int] = [:]

        init(trace: Trace, costs: Costs, state: PoolState) {
            self.trace = trace
            self.costs = costs
            self.state = state
        }

        private var instant: Instant { Instant(now * 1e9) }

        mutating func play(_ onProgress: (Double) -> Void) -> Outcome {
            for function in trace.functions {
                let plan = FunctionPlan(
                    name: function.name,
                    generation: 1,
                    memory: function.memory,
                    concurrency: 100_000
                )
                perform(state.setPlan(plan, now: 0))
            }
            outcome.calls = trace.calls.count
            var next = 0
            schedule(.tick, at: 0)
            while next < trace.calls.count || open > 0 {
                if next < trace.calls.count, queue.first.map({ trace.calls[next].time < $0.time }) ?? true {
                    if next % 4096 == 0 { onProgress(Double(next) / Double(trace.calls.count)) }
                    advance(to: trace.calls[next].time)
                    arrive(next)
                    next += 1
                } else {
                    let item = queue.removeFirst()
                    advance(to: item.time)
                    if let event = events.removeValue(forKey: item.id) { handle(event) }
                }
                _ = state.takeJournal()
            }
            outcome.heldGiBHours /= 3600 * 1_073_741_824
            outcome.wastedGiBHours /= 3600 * 1_073_741_824
            return outcome
        }

        private mutating func advance(to time: Double) {
            let held = Double(state.ledger.promised.count)
            outcome.heldGiBHours += held * (time - now)
            outcome.wastedGiBHours += (held - busyBytes) * (time - now)
            now = time
        }

        private mutating func schedule(_ event: Event, at time: Double) {
            serial += 1
            events[serial] = event
            queue.insert(Heap.Item(time: time, id: serial))
        }

        private mutating func arrive(_ index: Int) {
            let call = trace.calls[index]
            let token = LeaseToken(index)
            open += 1
            calls[token] = index
            let request = LeaseRequest(
                token: token,
                function: trace.functions[call.function].name,
                giveUpAt: instant + 10_000_000_000
            )
            perform(state.lease(request, now: instant))
        }

        private mutating func handle(_ event: Event) {
            switch event {
            case .started(let id): perform(state.started(id, now: instant))
            case .finished(let id):
                if state.entries[id]?.running ?? 1 <= 1 { busyBytes -= busy.removeValue(forKey: id) ?? 0 }
                open -= 1
                perform(state.finished(id, nil, now: instant))
            case .shrunk(let id, let size, let order):
                let slack = Slack.above(Bytes(Int64(size)), cpus: 2)
                let limit = min(Bytes(Int64(size)) + slack, state.entries[id]?.limit ?? .zero)
                perform(state.shrunk(id, Shrink(after: Bytes(Int64(size)), limit: limit), by: order, now: instant))
            case .removed(let id):
                perform(state.exited(id, now: instant))
                perform(state.removed(id, now: instant))
            case .tick:
                perform(state.tick(now: instant))
                schedule(.tick, at: now + 1)
            }
        }

        private mutating func perform(_ effects: [PoolEffect]) {
            for effect in effects { perform(effect) }
        }

        private mutating func perform(_ effect: PoolEffect) {
            switch effect {
            case .start(let id, _, _):
                schedule(.started(id), at: now + costs.coldStart)
            case .run(let token, let id, let kind, let contract):
                guard let index = calls.removeValue(forKey: token) else { return }
                var duration = trace.calls[index].duration
                if kind == .cold { outcome.coldStarts += 1 }
                if kind == .thawed {
                    outcome.wakes += 1
                    outcome.wakeSeconds += costs.wake
                    duration += costs.wake
                }
                busy[id] = Double(contract.count)
                busyBytes += Double(contract.count)
                schedule(.finished(id), at: now + duration)
            case .join(let token, let id):
                guard let index = calls.removeValue(forKey: token) else { return }
                schedule(.finished(id), at: now + trace.calls[index].duration)
            case .refuse(let token, _):
                guard calls.removeValue(forKey: token) != nil else { return }
                outcome.refused += 1
                open -= 1
            case .shrink(let id, let order):
                let size = memory(of: id) * (1 - (1 - costs.shrunkShare) * order.depth)
                schedule(.shrunk(id, size, order), at: now + costs.shrink)
            case .stop(let id, let reason):
                if reason == .evicted || reason == .pressed { outcome.evictions += 1 }
                schedule(.removed(id), at: now + costs.stop)
            case .lower(let id, let size): perform(state.lowered(id, to: size, wanted: size, now: instant))
            case .startFailed, .prepare, .raise, .assign, .freeze: break
            }
        }

        private func memory(of id: SandboxID) -> Double {
            let plan = state.entries[id].flatMap { state.plan($0.function) }
            return Double(plan?.memory.count ?? 0)
        }
    }
}
