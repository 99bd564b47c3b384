// SPDX-License-Identifier: Apache-2.0
import Linux
import Policy
import Synchronization

/// A decision and when it was made.
package struct LoggedDecision: Sendable {
    /// Counts decisions since the daemon started, from 1.
    package let sequence: UInt64
    /// Milliseconds since the epoch.
    package let time: Int64
    package let decision: Decision
}

/// The latest decisions, in memory, in order.
package final class DecisionLog: Sendable {
    private struct State {
        var ring: [LoggedDecision] = []
        var next = 0
        var count: UInt64 = 0
        var followers: [UInt64: @Sendable (LoggedDecision) -> Void] = [:]
        var tokens: UInt64 = 0
    }

    private let capacity: Int
    private let state = Mutex(State())

    /// - Parameter capacity: how many are kept; about 300 bytes each.
    package init(capacity: Int = 20_000) { self.capacity = capacity }

    package func append(_ decisions: [Decision]) {
        guard !decisions.isEmpty else { return }
        let time = WallClock.nowMs()
        let (added, followers) = state.withLock { state in
            var added: [LoggedDecision] = []
            for decision in decisions {
                state.count += 1
                let logged = LoggedDecision(sequence: state.count, time: time, decision: decision)
                if state.ring.count < capacity {
                    state.ring.append(logged)
                } else {
                    state.ring[state.next] = logged
                    state.next = (state.next + 1) % capacity
                }
                if !state.followers.isEmpty { added.append(logged) }
            }
            return (added, Array(state.followers.values))
        }
        for follower in followers { added.forEach(follower) }
    }

    /// What is kept, oldest first.
    ///
    /// - Parameters:
    ///   - subject: a sandbox, a request id or a function; everything about it, and about the sandbox that ran the
    ///     request from then on until it ended.
    ///   - after: only later ones than this sequence number.
    ///   - limit: only so many of the last.
    package func read(subject: String? = nil, after: UInt64 = 0, limit: Int = .max) -> [LoggedDecision] {
        let all = state.withLock { state in Array(state.ring[state.next...] + state.ring[..<state.next]) }
        let later = all.filter { $0.sequence > after }
        guard var subject else { return Array(later.suffix(limit)) }
        subject = Self.request(subject, all) ?? subject
        return Array(Self.about(subject, later).suffix(limit))
    }

    /// The one request whose id begins so, as logs on a terminal show it.
    private static func request(_ beginning: String, _ decisions: [LoggedDecision]) -> String? {
        guard beginning.utf8.count >= 8 else { return nil }
        let found = Set(decisions.compactMap(\.decision.request).filter { $0.hasPrefix(beginning) })
        return found.count == 1 ? found.first : nil
    }

    private static func about(_ subject: String, _ decisions: [LoggedDecision]) -> [LoggedDecision] {
        var running: SandboxID?
        return decisions.filter { logged in
            let decision = logged.decision
            if decision.request == subject {
                if let sandbox = decision.sandbox, decision.kind == .run { running = sandbox }
                return true
            }
            // What happened to the request's sandbox while it ran belongs to the request, until that runs another.
            if let sandbox = running, decision.sandbox == sandbox {
                if decision.kind == .grow || decision.kind == .keep || decision.kind == .pending
                    || decision.kind == .lower
                {
                    return true
                }
                running = nil
            }
            return decision.sandbox?.description == subject || decision.function == subject
                || decision.function.map(PlanName.function) == subject
        }
    }

    /// Calls `body` for each new decision, until `unfollow`; under the pool's lock, so it must return at once.
    package func follow(_ body: @escaping @Sendable (LoggedDecision) -> Void) -> UInt64 {
        state.withLock { state in
            state.tokens += 1
            state.followers[state.tokens] = body
            return state.tokens
        }
    }

    package func unfollow(_ token: UInt64) { state.withLock { _ = $0.followers.removeValue(forKey: token) } }
}
