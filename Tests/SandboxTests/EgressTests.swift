// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Sandbox

@Suite("Egress")
struct EgressTests {
    private let subnet = IPv4Block(IPv4Address(raw: 0x0AC8_0000), prefix: 16)

    private func policy(_ edit: (inout EgressPolicy) -> Void = { _ in }) -> EgressPolicy {
        var policy = EgressPolicy(subnet: subnet)
        edit(&policy)
        return policy
    }

    private func address(_ text: String) throws -> IPv4Address { try #require(IPv4Address(text)) }

    @Test("what is never public is denied, with the addresses at the edges and the clouds' metadata service")
    func neverPublic() throws {
        #expect(EgressPolicy.neverPublic.count == 12, "one of them is no block")
        let denied = EgressSets(policy(), resolvers: []).deny
        for (text, isDenied) in [
            ("169.254.169.254", true), ("10.0.0.0", true), ("10.255.255.255", true), ("11.0.0.0", false),
            ("172.15.255.255", false), ("172.16.0.0", true), ("172.31.255.255", true), ("172.32.0.0", false),
            ("192.168.255.255", true), ("100.63.255.255", false), ("100.64.0.0", true), ("100.127.255.255", true),
            ("100.128.0.0", false), ("127.0.0.1", true), ("0.0.0.0", true), ("223.255.255.255", false),
            ("168.63.129.16", true), ("168.63.129.17", false), ("224.0.0.1", true), ("255.255.255.255", true),
            ("8.8.8.8", false), ("1.1.1.1", false),
        ] {
            let parsed = try address(text)
            #expect(denied.contains { $0.contains(parsed) } == isDenied, "\(text)")
        }
    }

    @Test("the operator's list adds to it, and no block of the set lies in another one, which nft would refuse")
    func denyAdds() throws {
        let sets = EgressSets(
            policy { $0.deny = IPv4Block.list("10.1.0.0/16,203.0.113.0/24,0.0.0.0/1") ?? [] },
            resolvers: []
        )
        let added = IPv4Block(try address("203.0.113.0"), prefix: 24)
        #expect(sets.deny.contains(added))
        for (index, block) in sets.deny.enumerated() {
            #expect(!sets.deny[(index + 1)...].contains { $0.overlaps(block) }, "\(block)")
        }
    }

    @Test("a daemon that has taken its network down does not set it up again")
    func down() {
        let network = EgressNetwork(
            stateDirectory: "/tmp/ebb-egress-\(UInt64.random(in: 0 ... .max))",
            policy: policy()
        )
        network.shutdown()
        #expect(throws: SandboxError.network("egress: the daemon is stopping")) { try network.require() }
    }

    @Test("refused egress denies everything, and leaves neither exceptions nor resolvers")
    func refused() throws {
        let sets = EgressSets(
            policy {
                $0.isRefused = true
                $0.allow = IPv4Block.list("10.1.0.0/16") ?? []
            },
            resolvers: [try address("9.9.9.9")]
        )
        #expect(sets.deny.map(\.description) == ["0.0.0.0/0"])
        #expect(sets.allow.isEmpty && sets.resolvers.isEmpty)
    }

    @Test("in the rules, exceptions come before what is denied, and resolvers on port 53 alone before both")
    func order() throws {
        let sets = EgressSets(
            policy { $0.allow = IPv4Block.list("10.1.0.0/16") ?? [] },
            resolvers: [try address("10.0.0.53"), try address("10.0.0.53")]
        )
        let rules = EgressRules(sets: sets)
        for text in [rules.router, rules.host(table: "ebb_x", link: "ebb-x", transit: try address("10.200.0.1"))] {
            let egress = try #require(text.firstRange(of: "chain egress {"))
            let places = try [
                "ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept", "ip daddr @allow accept",
                "ip daddr @deny goto refuse",
            ]
            .map { try #require(text[egress.upperBound...].firstRange(of: $0)).lowerBound }
            #expect(places == places.sorted())
            #expect(text.contains("set allow { type ipv4_addr; flags interval; elements = { 10.1.0.0/16 }; }"))
            #expect(text.contains("set resolvers { type ipv4_addr; elements = { 10.0.0.53 }; }"))
        }
    }

    @Test("an edit empties each set before it fills it, and fills none with nothing, which nft does not take")
    func edit() {
        let text = EgressRules(sets: EgressSets(policy(), resolvers: [])).edit(table: "t")
        let lines = text.split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines[0] == "flush set inet t deny")
        #expect(lines[1].hasPrefix("add element inet t deny { 0.0.0.0/8, 10.0.0.0/8, "))
        #expect(lines[2...] == ["flush set inet t allow", "flush set inet t resolvers"])
    }

    @Test("a pair of addresses belongs to one slot, and slots rest as long as there are others")
    func slots() {
        let link = EgressLink(slot: 3, subnet: subnet)
        #expect(link.gateway.description == "10.200.0.6" && link.address.description == "10.200.0.7")
        #expect(link.interface == "ebb-3")
        #expect(EgressLink(slot: EgressLink.count(subnet) - 1, subnet: subnet).address.description == "10.200.255.255")
        var slots = EgressSlots(count: 4, reserved: 2)
        let taken = [slots.take(), slots.take(), slots.take(), slots.take()]
        #expect(taken == [3, 0, 1, nil])
        slots.giveBack(0)
        slots.giveBack(3)
        let again = [slots.take(), slots.take(), slots.take()]
        #expect(again == [3, 0, nil])
    }

    @Test("the pair towards the host is one that no network of the host has, its own link and default route aside")
    func transit() throws {
        let host = EgressHost(names: EgressNames(stateDirectory: "/var/lib/fn"), record: "", nft: "")
        let first = try host.transit(in: subnet, routes: [])
        func route(_ interface: String, _ block: String) throws -> HostNetwork.Route {
            HostNetwork.Route(interface: interface, destination: try #require(IPv4Block(block)))
        }
        let pair = IPv4Block(first.gateway, prefix: 31).description
        let own = [try route(host.names.link, pair), try route("eth0", "0.0.0.0/0")]
        #expect(try host.transit(in: subnet, routes: own) == first)
        #expect(try host.transit(in: subnet, routes: [try route("eth0", pair)]) != first)
        #expect(
            throws: SandboxError.network(
                "egress: network.subnet 10.200.0.0/16 is taken on this host (10.0.0.0/8 on eth0): choose a free one"
            )
        ) { try host.transit(in: subnet, routes: [try route("eth0", "10.0.0.0/8")]) }
    }

    @Test("names on the host fit the kernel's 15 characters and differ by state directory")
    func names() {
        let names = EgressNames(stateDirectory: "/var/lib/fn")
        #expect(names.link.utf8.count <= 15 && names.link.hasPrefix("ebb-"))
        #expect(names == EgressNames(stateDirectory: "/var/lib/fn"))
        #expect(names.table != EgressNames(stateDirectory: "/var/lib/fn2").table)
    }

    @Test("routes are read as the kernel writes them")
    func routes() throws {
        let text = """
            Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
            eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
            eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
            nonsense

            """
        let found = HostNetwork.routes(text).map { "\($0.interface) \($0.destination)" }
        #expect(found == ["eth0 0.0.0.0/0", "eth0 192.0.2.0/24"])
    }

    @Test("of the host's resolvers those are taken that another namespace can reach")
    func resolvers() {
        let text = """
            # nameserver 1.1.1.1
            nameserver 127.0.0.53
            nameserver ::1
            nameserver 10.0.0.53
            search example.org
            nameserver 9.9.9.9

            """
        #expect(HostNetwork.resolvers(text).map(\.description) == ["10.0.0.53", "9.9.9.9"])
        #expect(HostNetwork.resolvers("nameserver 127.0.0.53\n").isEmpty)
    }
}
