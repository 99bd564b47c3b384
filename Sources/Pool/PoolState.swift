// SPDX-License-Identifier: Apache-2.0
import Collections
import Reclaim
import Units

/// Which sandbox serves which request, and what memory each holds: the pool's decisions, as a pure state machine.
///
/// Every event returns what the driver has to do. Clock and identities come in from outside, so the same code is driven
/// by the daemon, by random walks in the tests, and by a virtual clock.
package struct PoolState: Sendable {
    /// Where a sandbox is in its life.
    package enum Phase: Sendable, Equatable {
        /// `reservedFor` is a request that wants this very sandbox.
        case starting(reservedFor: LeaseToken?)
        case idle
        case busy(LeaseToken)
        /// A shrink is under way; a request may take it back at any moment.
        case shrinking
        case shrunk
        /// On its way out; holds its memory until the kernel says that it is gone.
        case stopping
    }

    /// One sandbox as the pool sees it.
    package struct Entry: Sendable {
        package let id: SandboxID
        package let function: String
        package let generation: Int
        package var phase: Phase
        /// The size this sandbox is meant to have, when that is not what it holds: an edit that does not fit yet.
        package var pending: Bytes?
        package var idleSince: Instant = 0
        package var startedAt: Instant
        package var served = 0
        /// What the last shrink left it with; the best guess of what the next one will.
        var shrunkTo: Bytes?
        /// The last shrink stopped without a result: not tried again until it was used.
        var resists = false
    }

    struct Waiting {
        var request: LeaseRequest
        /// Why it could not be served when it was last looked at.
        var blockedBy: PoolRefusal?
    }

    package internal(set) var ledger: Ledger<SandboxID>
    package internal(set) var entries: OrderedDictionary<SandboxID, Entry> = [:]
    package var limits: PoolLimits
    var plans: [String: FunctionPlan] = [:]
    var waiting: OrderedDictionary<LeaseToken, Waiting> = [:]
    var isShuttingDown = false
    private var serial: UInt64 = 0
    private let epoch: String

    /// - Parameter epoch: told apart from other runs of the daemon in sandbox names.
    package init(budget: Bytes, limits: PoolLimits, epoch: String) {
        ledger = Ledger(budget: budget)
        self.limits = limits
        self.epoch = epoch
    }

    /// A fresh name: the function's, so that a list of cgroups can be read, and a number never used before.
    mutating func makeID(_ function: String) -> SandboxID {
        serial += 1
        return SandboxID("\(function.lowercased())-\(epoch)\(String(serial, radix: 36))")
    }

    /// Requests that have no sandbox yet.
    package var waitingCount: Int { waiting.count }

    package func plan(_ function: String) -> FunctionPlan? { plans[function] }

    /// Sandboxes of a function that are not on their way out.
    func live(_ function: String) -> Int {
        entries.values.count { $0.function == function && $0.phase != .stopping }
    }

    /// Whether an entry may take requests of its function as it is deployed now.
    func isCurrent(_ entry: Entry) -> Bool { plans[entry.function]?.generation == entry.generation }
}
