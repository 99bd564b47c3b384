// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// The address of one sandbox, and the pair of addresses that it shares with the router.
package struct EgressLink: Sendable, Equatable {
    /// Which pair of the subnet.
    let slot: Int
    /// The sandbox's own.
    package let address: IPv4Address
    /// The router's end of the pair.
    let gateway: IPv4Address
    /// The router's interface.
    var interface: String { "\(EgressNames.prefix)\(slot)" }

    init(slot: Int, subnet: IPv4Block) {
        self.slot = slot
        gateway = IPv4Address(raw: subnet.base.raw + UInt32(slot) * 2)
        address = IPv4Address(raw: gateway.raw + 1)
    }

    static func count(_ subnet: IPv4Block) -> Int { subnet.count / 2 }
}

/// A network namespace of the daemon's own in which every sandbox with egress has one end of its veth pair.
///
/// It translates, filters and forwards, so that the host sees one interface and one address, whatever number of
/// sandboxes there is. And nothing of it outlives the daemon, however that ends: a namespace that nobody holds takes
/// its interfaces, rules, connections and settings along.
final class EgressRouter: Sendable {
    /// Its interface towards the host.
    static let uplink = "uplink"
    /// The sandboxes' interface.
    static let inside = "eth0"

    private let namespace: CInt
    private let routes: CInt
    private let connections: CInt

    private init(namespace: CInt, routes: CInt, connections: CInt) {
        self.namespace = namespace
        self.routes = routes
        self.connections = connections
    }

    deinit { for fd in [namespace, routes, connections] { close(fd) } }

    /// A namespace that forwards, with the rules loaded; not connected to anything yet.
    static func make(_ rules: EgressRules, nft: String) throws(SandboxError) -> EgressRouter {
        let made = try onThread("egress-router") { () throws(SyscallError) -> ([CInt], Program.Outcome) in
            try SyscallError.check("unshare", "network namespace", clinux_unshare(CLINUX_NETWORK))
            try HostNetwork.disableIPv6("all")
            try KernelFile.write("/proc/sys/net/ipv4/ip_forward", "1")
            // By default the kernel answers one peer once a second, and lets the others wait for a timeout.
            try KernelFile.write("/proc/sys/net/ipv4/icmp_ratemask", "0")
            let routes = Descriptor(owning: try SyscallError.check("socket", "rtnetlink", clinux_route_socket()))
            let connections = Descriptor(
                owning: try SyscallError.check("socket", "ctnetlink", clinux_conntrack_socket())
            )
            let namespace = try Descriptor.open("/proc/thread-self/ns/net", O_RDONLY)
            let outcome = try Program.run(nft, ["-f", "-"], input: rules.router)
            return ([namespace.release(), routes.release(), connections.release()], outcome)
        }
        let router = EgressRouter(namespace: made.0[0], routes: made.0[1], connections: made.0[2])
        try made.1.check("the router's rules")
        return router
    }

    /// Connects it to the host.
    ///
    /// - Parameters:
    ///   - host: an rtnetlink socket of the host's namespace.
    ///   - name: the host's interface.
    ///   - transit: `gateway` is the host's address, `address` the router's.
    func connect(host: CInt, name: String, transit: EgressLink) throws(SyscallError) {
        try SyscallError.check("add link", name, unsafe clinux_veth(host, name, Self.uplink, namespace))
        try SyscallError.check("add address", name, unsafe clinux_add_address(host, name, transit.gateway.raw, 31))
        try SyscallError.check(
            "add address",
            Self.uplink,
            unsafe clinux_add_address(routes, Self.uplink, transit.address.raw, 31)
        )
        try SyscallError.check("set up", Self.uplink, unsafe clinux_link_up(routes, Self.uplink))
        try SyscallError.check("add route", Self.uplink, clinux_default_route(routes, transit.gateway.raw))
    }

    /// Connects a sandbox's namespace. Not to be called from two threads at once: an answer could go to the wrong one.
    ///
    /// - Throws: `EEXIST` while the namespace that had this slot before is still on its way out.
    func attach(_ link: EgressLink, to sandbox: CInt) throws(SyscallError) {
        // The connections of who had this address before are nobody's: else an answer to one could reach this sandbox.
        forget(link)
        let name = link.interface
        try SyscallError.check("add link", name, unsafe clinux_veth(routes, name, Self.inside, sandbox))
        do throws(SyscallError) {
            try SyscallError.check("add address", name, unsafe clinux_add_address(routes, name, link.gateway.raw, 31))
            try Thread.run(name: "egress") { () throws(SyscallError) in
                try SyscallError.check("setns", "network namespace", clinux_enter_network(sandbox))
                try HostNetwork.disableIPv6("all")
                let socket = Descriptor(owning: try SyscallError.check("socket", "rtnetlink", clinux_route_socket()))
                let inside = Self.inside
                try SyscallError.check(
                    "add address",
                    inside,
                    unsafe clinux_add_address(socket.raw, inside, link.address.raw, 31)
                )
                try SyscallError.check("set up", inside, unsafe clinux_link_up(socket.raw, inside))
                try SyscallError.check("add route", inside, clinux_default_route(socket.raw, link.gateway.raw))
            }
        } catch {
            _ = unsafe clinux_remove_link(routes, name)
            throw error
        }
    }

    /// Forgets the connections of a sandbox that has ended.
    ///
    /// Its interface goes with its namespace: the kernel removes those of many at one stroke, where removing a single
    /// one takes 11 to 27 ms, in which no other can be made (measured on Linux 6.18; making one takes 0.4 ms).
    func forget(_ link: EgressLink) {
        // Whether the mark is the address in the network's byte order or in the machine's is nft's choice (1.0.6 leaves
        // it as it is in the packet). Within a /16 no two addresses are each other's mirror image.
        for mark in [link.address.raw, link.address.raw.byteSwapped] {
            _ = clinux_forget_connections(connections, mark)
        }
    }

    /// Puts other sets into its rules.
    func edit(_ rules: EgressRules, nft: String) throws(SandboxError) {
        let namespace = namespace
        let outcome = try Self.onThread("egress-edit") { () throws(SyscallError) -> Program.Outcome in
            try SyscallError.check("setns", "network namespace", clinux_enter_network(namespace))
            return try Program.run(nft, ["-f", "-"], input: rules.edit(table: EgressRules.routerTable))
        }
        try outcome.check("the router's sets")
    }

    private static func onThread<Value: Sendable>(
        _ name: String,
        _ body: @escaping @Sendable () throws(SyscallError) -> Value
    ) throws(SandboxError) -> Value {
        do throws(SyscallError) { return try Thread.run(name: name, body) } catch {
            throw .network("egress: \(error)")
        }
    }
}

extension Program.Outcome {
    /// Throws what nft said when it failed.
    func check(_ what: String) throws(SandboxError) {
        guard status != 0 else { return }
        let said = output.split(separator: "\n").prefix(2).joined(separator: "; ")
        throw .network("egress: nft did not take \(what): \(said.isEmpty ? "status \(status)" : said)")
    }
}
