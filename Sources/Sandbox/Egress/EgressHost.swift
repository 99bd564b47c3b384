// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// What is changed on the host while sandboxes have egress: one interface, one nft table, and forwarding on the
/// interfaces that lead out. A record on disk says so before it is done, so that it is undone even after a kill.
struct EgressHost: Sendable {
    let names: EgressNames
    /// Holds the interfaces that forward because of us, one a line. It is there while anything of ours may be.
    let record: String
    let nft: String
    private(set) var forwarding: [String] = []

    init(names: EgressNames, record: String, nft: String) {
        (self.names, self.record, self.nft) = (names, record, nft)
    }

    /// Puts back what a killed daemon could not. Nothing happens without a record.
    static func sweep(_ names: EgressNames, record: String) {
        guard let text = try? KernelFile.read(record) else { return }
        var left = EgressHost(names: names, record: record, nft: Program.find("nft") ?? "/usr/sbin/nft")
        left.forwarding = text.split(separator: "\n").map(String.init)
        left.takeDown()
    }

    /// A pair of addresses of `subnet` that no network of the host has.
    func transit(in subnet: IPv4Block, routes: [HostNetwork.Route]) throws(SandboxError) -> EgressLink {
        let others = routes.filter { $0.destination.prefix > 0 && $0.interface != names.link }
        let count = EgressLink.count(subnet)
        for step in 0..<min(count, 64) {
            // Daemons side by side begin at different places.
            let link = EgressLink(slot: (Int(names.number) + step) % count, subnet: subnet)
            let pair = IPv4Block(link.gateway, prefix: 31)
            if !others.contains(where: { $0.destination.overlaps(pair) }) { return link }
        }
        let other = others.first { $0.destination.overlaps(subnet) }
        throw .network(
            "egress: network.subnet \(subnet) is taken on this host"
                + (other.map { " (\($0.destination) on \($0.interface))" } ?? "") + ": choose a free one"
        )
    }

    /// Loads the rules, then connects the router: from the first packet on, the rules hold.
    func connect(_ router: EgressRouter, _ rules: EgressRules, transit: EgressLink) throws(SandboxError) {
        try load(rules.host(table: names.table, link: names.link, transit: transit.address), "the host's rules")
        do throws(SyscallError) {
            let socket = Descriptor(owning: try SyscallError.check("socket", "rtnetlink", clinux_route_socket()))
            // That of a killed daemon may still be on its way out.
            _ = unsafe clinux_remove_link(socket.raw, names.link)
            try router.connect(host: socket.raw, name: names.link, transit: transit)
            try HostNetwork.disableIPv6(names.link)
            try HostNetwork.setForwarding(names.link, true)
        } catch {
            throw .network("egress cannot be set up: \(error)")
        }
    }

    func edit(_ rules: EgressRules) throws(SandboxError) { try load(rules.edit(table: names.table), "the host's sets") }

    /// Lets answers in: an interface takes packets for others only if it forwards. Where the host forwards as a whole
    /// there is nothing to do, and nothing to guard; it may begin and cease to do so at any time.
    mutating func forward() throws(SandboxError) {
        let others = HostNetwork.uplinks().filter { !HostNetwork.forwards($0) }
        let wanted = HostNetwork.forwards ? [] : Set(forwarding + others)
        if wanted != Set(forwarding) {
            forwarding = wanted.sorted()
            try note()
            // Before they forward: to Ebb's links and nowhere else.
            try load(EgressRules.uplinks(table: names.table, forwarding), "the interfaces that lead out")
        }
        for interface in forwarding where !HostNetwork.forwards(interface) {
            do throws(SyscallError) { try HostNetwork.setForwarding(interface, true) } catch {
                // An interface that has gone needs nothing.
                guard error.errno == ENOENT else { throw .network("egress: \(interface) cannot forward: \(error)") }
            }
        }
    }

    /// Says on disk what `forwarding` says.
    func note() throws(SandboxError) {
        do throws(SyscallError) {
            try EgressFile.write(record, forwarding.map { "\($0)\n" }.joined())
        } catch {
            throw .network("egress: \(error)")
        }
    }

    func takeDown() {
        let isGone = (try? load(EgressRules.remove(table: names.table), "the removal of the host's rules")) != nil
        let socket = clinux_route_socket()
        if socket >= 0 {
            _ = unsafe clinux_remove_link(socket, names.link)
            close(socket)
        }
        if !HostNetwork.forwards { for each in forwarding { try? HostNetwork.setForwarding(each, false) } }
        // Else the next daemon tries again.
        if isGone { _ = unsafe unlink(record) }
    }

    private func load(_ script: String, _ what: String) throws(SandboxError) {
        let outcome: Program.Outcome
        do throws(SyscallError) { outcome = try Program.run(nft, ["-f", "-"], input: script) } catch {
            throw .network("egress: \(error)")
        }
        try outcome.check(what)
    }
}

/// Small files in the state directory.
enum EgressFile {
    /// Writes a file where it is: who has it mounted sees the new contents.
    static func write(_ path: String, _ text: String) throws(SyscallError) {
        let flags = O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW
        let fd = Descriptor(owning: try SyscallError.check("open", path, unsafe open(path, flags, 0o644)))
        var text = text
        let count = text.withUTF8 { unsafe pwrite(fd.raw, $0.baseAddress, $0.count, 0) }
        guard count == text.utf8.count else { throw SyscallError("write", path, errno) }
        try SyscallError.check("truncate", path, ftruncate(fd.raw, count))
        try SyscallError.check("chmod", path, fchmod(fd.raw, 0o644))  // whatever the daemon's umask is
    }
}
