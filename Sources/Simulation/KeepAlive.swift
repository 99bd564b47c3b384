// SPDX-License-Identifier: Apache-2.0
import Policy
import Units

/// The policies that others use, on the same trace and the same memory: sandboxes keep their full size until they end.
package struct KeepAlive: Sendable {
    package enum Kind: String, Sendable, CaseIterable {
        /// Idle for ten minutes, then gone; under pressure the longest idle goes first.
        case fixed = "keep-alive 10 min"
        case lru = "LRU"
        /// `clock + uses · cold cost / size` (FaasCache, ASPLOS 2021).
        case greedyDual = "GreedyDual"
    }

    private struct Sandbox {
        var function: Int
        var isBusy: Bool
        var idleSince: Double
        var priority: Double
    }

    private let kind: Kind
    private let costs: Costs

    package init(_ kind: Kind, costs: Costs = Costs()) {
        self.kind = kind
        self.costs = costs
    }

    package func run(_ trace: Trace, memory: Bytes, onProgress: (Double) -> Void = { _ in }) -> Outcome {
        var outcome = Outcome(policy: kind.rawValue)
        outcome.calls = trace.calls.count
        var sandboxes: [Int: Sandbox] = [:]
        var warm: [Int: [Int]] = [:]
        var uses = [Int](repeating: 0, count: trace.functions.count)
        var finishes = Heap()
        var (used, busy, clock, now, serial) = (0.0, 0.0, 0.0, 0.0, 0)
        let limit = Double(memory.count)

        func size(_ function: Int) -> Double { Double(trace.functions[function].memory.count) }
        func advance(to time: Double) {
            outcome.heldGiBHours += used * (time - now)
            outcome.wastedGiBHours += (used - busy) * (time - now)
            now = time
        }
        func remove(_ id: Int) {
            guard let gone = sandboxes.removeValue(forKey: id) else { return }
            warm[gone.function]?.removeAll { $0 == id }
            used -= size(gone.function)
        }
        func finish(_ id: Int) {
            guard let sandbox = sandboxes[id] else { return }
            sandboxes[id]?.isBusy = false
            sandboxes[id]?.idleSince = now
            busy -= size(sandbox.function)
            warm[sandbox.function, default: []].append(id)
        }
        func expire() {
            guard kind == .fixed else { return }
            for (id, sandbox) in sandboxes where !sandbox.isBusy && now - sandbox.idleSince > 600 { remove(id) }
        }
        func victim() -> Int? {
            let idle = sandboxes.filter { !$0.value.isBusy }
            switch kind {
            case .greedyDual: return idle.min { ($0.value.priority, $0.key) < ($1.value.priority, $1.key) }?.key
            default: return idle.min { ($0.value.idleSince, $0.key) < ($1.value.idleSince, $1.key) }?.key
            }
        }

        var nextExpiry = 0.0
        for (index, call) in trace.calls.enumerated() {
            if index % 4096 == 0 { onProgress(Double(index) / Double(trace.calls.count)) }
            while let next = finishes.first, next.time <= call.time {
                finishes.removeFirst()
                advance(to: next.time)
                finish(next.id)
            }
            advance(to: call.time)
            if now >= nextExpiry {
                expire()
                nextExpiry = now + 1
            }
            uses[call.function] += 1
            let bytes = size(call.function)
            var wait = 0.0
            let id: Int
            if let known = warm[call.function]?.popLast() {
                id = known
            } else {
                wait = costs.coldStart
                while used + bytes > limit, let out = victim() {
                    clock = max(clock, sandboxes[out]?.priority ?? 0)
                    outcome.evictions += 1
                    remove(out)
                }
                guard used + bytes <= limit else {
                    outcome.refused += 1
                    continue
                }
                outcome.coldStarts += 1
                serial += 1
                id = serial
                used += bytes
                sandboxes[id] = Sandbox(function: call.function, isBusy: true, idleSince: now, priority: 0)
            }
            sandboxes[id]?.isBusy = true
            sandboxes[id]?.priority = clock + Double(uses[call.function]) * costs.coldStart / (bytes / 1_048_576)
            busy += bytes
            finishes.insert(Heap.Item(time: call.time + wait + call.duration, id: id))
        }
        outcome.heldGiBHours /= 3600 * 1_073_741_824
        outcome.wastedGiBHours /= 3600 * 1_073_741_824
        return outcome
    }
}

/// Times in order: the earliest first.
struct Heap {
    struct Item {
        var time: Double
        var id: Int
    }

    private var items: [Item] = []
    var first: Item? { items.first }

    mutating func insert(_ item: Item) {
        items.append(item)
        var child = items.count - 1
        while child > 0, items[child].time < items[(child - 1) / 2].time {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    @discardableResult
    mutating func removeFirst() -> Item {
        items.swapAt(0, items.count - 1)
        let first = items.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < items.count && items[child].time < items[least].time {
                least = child
            }
            guard least != parent else { return first }
            items.swapAt(parent, least)
            parent = least
        }
    }
}
