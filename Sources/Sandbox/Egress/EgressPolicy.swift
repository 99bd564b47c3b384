// SPDX-License-Identifier: Apache-2.0
import Units

/// What sandboxes with egress may reach, by the operator's word.
package struct EgressPolicy: Sendable, Equatable {
    /// Nothing goes out, whatever a function asked for.
    package var isRefused = false
    /// Where the sandboxes' own addresses come from, two for each.
    package var subnet: IPv4Block
    /// Not to be reached, besides `neverPublic`.
    package var deny: [IPv4Block] = []
    /// Reached although they are in `neverPublic` or `deny`, or are the host's own.
    package var allow: [IPv4Block] = []
    /// The sandboxes' resolvers; `nil` is those that the host itself uses.
    package var dns: [IPv4Address]?

    package init(subnet: IPv4Block) { self.subnet = subnet }

    /// What no public service has, from IANA's registry of special-purpose addresses: "this network", private use,
    /// shared by carriers (CGNAT), loopback, link-local with the clouds' metadata services, private use, protocol
    /// assignments, private use, benchmarks, multicast, and reserved with the broadcast address. And Azure's host service,
    /// which looks public and gives certificates and settings to any process of the machine.
    package static let neverPublic = [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
    ]
    .compactMap { IPv4Block($0) }

}

/// The three sets that the rules look into, and that are edited while sandboxes run.
struct EgressSets: Sendable, Equatable {
    var deny: [IPv4Block]
    var allow: [IPv4Block]
    /// In the order in which they are asked, none twice.
    var resolvers: [IPv4Address]

    /// - Parameter resolvers: the ones in use, which may be the host's.
    init(_ policy: EgressPolicy, resolvers: [IPv4Address]) {
        let everything = [IPv4Block(IPv4Address(raw: 0), prefix: 0)]
        deny = policy.isRefused ? everything : IPv4Block.merged(EgressPolicy.neverPublic + policy.deny)
        allow = policy.isRefused ? [] : IPv4Block.merged(policy.allow)
        self.resolvers =
            policy.isRefused ? [] : resolvers.enumerated().filter { !resolvers[..<$0].contains($1) }.map(\.element)
    }

    /// The sandboxes' `/etc/resolv.conf`.
    var resolverFile: String {
        "# Written by fnd: network.dns, or the host's own resolvers.\n"
            + resolvers.map { "nameserver \($0)\n" }.joined()
    }
}
