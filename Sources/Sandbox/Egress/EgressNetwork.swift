// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Synchronization
import Units

/// Gives sandboxes a way out: set up when the first one asks for it, taken down with the daemon.
package final class EgressNetwork: Sendable {
    package enum Status: Sendable, Equatable {
        /// No sandbox has asked for it yet.
        case unused
        case ready(sandboxes: Int, resolvers: [IPv4Address])
        case failed(String)
    }

    /// What is there while it is set up.
    private struct Running: Sendable {
        let router: EgressRouter
        var host: EgressHost
        let subnet: IPv4Block
        var sets: EgressSets
        var slots: EgressSlots
        /// Of the files that name the host's resolvers.
        var stamps: [FileStamp?]
    }

    private struct State {
        var policy: EgressPolicy
        var running: Running?
        var problem: String?
        /// What is set up from here on would outlive the daemon.
        var isDown = false
    }

    private let names: EgressNames
    private let record: String
    /// Mounted at `/etc/resolv.conf` in each sandbox with egress, and written in place: they all see a change.
    private let resolverFile: String
    private let state: Mutex<State>

    /// Puts back what a daemon with this state directory could not, when it was killed.
    package init(stateDirectory: String, policy: EgressPolicy) {
        names = EgressNames(stateDirectory: stateDirectory)
        record = "\(stateDirectory)/egress"
        resolverFile = "\(stateDirectory)/resolv.conf"
        state = Mutex(State(policy: policy))
        EgressHost.sweep(names, record: record)
    }

    package var status: Status {
        state.withLock { state in
            if let running = state.running, state.problem == nil {
                return .ready(sandboxes: running.slots.taken.count, resolvers: running.sets.resolvers)
            }
            return state.problem.map { .failed($0) } ?? .unused
        }
    }

    /// Sets it up if it is not; throws why sandboxes cannot have it here.
    package func require() throws(SandboxError) {
        try changing { state throws(SandboxError) in
            try setUp(&state)
            if state.problem != nil { try edit(&state) }
        }
    }

    /// Other rules are in force, for sandboxes that run too. The subnet stays until the next start.
    package func apply(_ policy: EgressPolicy) throws(SandboxError) {
        let isRunning = state.withLock { state in
            state.policy = policy
            return state.running != nil
        }
        guard isRunning else { return }
        try changing { state throws(SandboxError) in try edit(&state) }
    }

    /// To be called once a second or so: follows the host's resolvers and interfaces.
    package func refresh() throws(SandboxError) {
        // What kept it from being set up stays its problem until that is tried again.
        guard state.withLock({ $0.running != nil }) else { return }
        try changing { state throws(SandboxError) in
            guard state.running != nil else { return }
            try state.running?.host.forward()
            let stamps = HostNetwork.resolverFiles.map { FileStamp($0) }
            guard stamps != state.running?.stamps || state.problem != nil else { return }
            state.running?.stamps = stamps
            try edit(&state)
        }
    }

    /// Connects the network namespace of a new sandbox.
    func attach(_ namespace: CInt) throws(SandboxError) -> EgressLink {
        try state.withLock { state throws(SandboxError) in
            guard let running = state.running else {
                throw .network("egress: \(state.problem ?? "it is not set up")")
            }
            // A slot is free again before the kernel has removed its interface: then the next one will do.
            for _ in 0..<64 {
                guard let slot = state.running?.slots.take() else { break }
                let link = EgressLink(slot: slot, subnet: running.subnet)
                do throws(SyscallError) {
                    try running.router.attach(link, to: namespace)
                    return link
                } catch {
                    state.running?.slots.giveBack(slot)
                    guard error.errno == EEXIST else { throw .network("egress: \(error)") }
                }
            }
            throw .network("egress: network.subnet \(running.subnet) has no address left: give a larger one")
        }
    }

    /// A sandbox has ended.
    func detach(_ link: EgressLink) {
        state.withLock { state in
            state.running?.router.forget(link)
            state.running?.slots.giveBack(link.slot)
        }
    }

    /// The sandboxes' `/etc/resolv.conf`, as a mount for `move_mount`.
    func resolverMount() throws(SyscallError) -> CInt {
        try SyscallError.check("open_tree", resolverFile, unsafe clinux_detached_mount(resolverFile))
    }

    /// Takes everything down. The sandboxes have ended before.
    package func shutdown() {
        state.withLock { state in
            state.running?.host.takeDown()
            (state.running, state.isDown) = (nil, true)
        }
    }

    // MARK: Parts

    /// Does something and remembers how it went, for `status`.
    private func changing(_ body: (inout State) throws(SandboxError) -> Void) throws(SandboxError) {
        try state.withLock { state throws(SandboxError) in
            do throws(SandboxError) {
                try body(&state)
                state.problem = nil
            } catch {
                state.problem = error.description
                throw error
            }
        }
    }

    private func setUp(_ state: inout State) throws(SandboxError) {
        guard state.running == nil else { return }
        guard !state.isDown else { throw .network("egress: the daemon is stopping") }
        guard let nft = Program.find("nft") else {
            throw .network("egress needs the program nft: apt-get install nftables")
        }
        var host = EgressHost(names: names, record: record, nft: nft)
        let (subnet, sets) = (state.policy.subnet, sets(state.policy))
        let stamps = HostNetwork.resolverFiles.map { FileStamp($0) }
        let transit = try host.transit(in: subnet, routes: HostNetwork.routes())
        try host.note()
        do throws(SandboxError) {
            try writeResolvers(sets)
            let rules = EgressRules(sets: sets)
            let router = try EgressRouter.make(rules, nft: nft)
            try host.connect(router, rules, transit: transit)
            try host.forward()
            let slots = EgressSlots(count: EgressLink.count(subnet), reserved: transit.slot)
            state.running = Running(
                router: router,
                host: host,
                subnet: subnet,
                sets: sets,
                slots: slots,
                stamps: stamps
            )
        } catch {
            host.takeDown()
            throw error
        }
    }

    private func edit(_ state: inout State) throws(SandboxError) {
        guard let running = state.running else { return }
        let sets = sets(state.policy)
        guard sets != running.sets || state.problem != nil else { return }
        let rules = EgressRules(sets: sets)
        try running.router.edit(rules, nft: running.host.nft)
        try running.host.edit(rules)
        try writeResolvers(sets)
        state.running?.sets = sets
    }

    private func sets(_ policy: EgressPolicy) -> EgressSets {
        EgressSets(policy, resolvers: policy.dns ?? HostNetwork.resolvers())
    }

    private func writeResolvers(_ sets: EgressSets) throws(SandboxError) {
        do throws(SyscallError) {
            try EgressFile.write(resolverFile, sets.resolverFile)
        } catch {
            throw .network("egress: \(error)")
        }
    }
}

/// The pairs of addresses of a subnet: given out in turn, so that one rests as long as possible before it is used
/// again.
struct EgressSlots: Sendable {
    let count: Int
    private let reserved: Int
    private var next: Int
    private(set) var taken: Set<Int> = []

    /// - Parameter reserved: the one that the router itself has.
    init(count: Int, reserved: Int) {
        (self.count, self.reserved, next) = (count, reserved, reserved)
    }

    /// `nil` when all are taken.
    mutating func take() -> Int? {
        guard taken.count < count - 1 else { return nil }
        repeat { next = (next + 1) % count } while next == reserved || taken.contains(next)
        taken.insert(next)
        return next
    }

    mutating func giveBack(_ slot: Int) { taken.remove(slot) }
}
