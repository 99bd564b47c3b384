// SPDX-License-Identifier: Apache-2.0
import Units

/// What sandboxes may reach.
extension Schema {
    static let network: [Setting] = [
        choice(
            "network.egress",
            \.network.egress,
            "allow",
            "whether functions may have egress; refuse cuts off those that have it, too"
        ),
        Setting(
            path: "network.subnet",
            form: "a block of IPv4 addresses such as '10.200.0.0/16', from /16 to /28",
            fallback: "10.200.0.0/16",
            isLive: false,
            doc: "where sandboxes with egress get their addresses, two each; only two of them are seen on the host",
            read: { text, settings, _ in
                guard let block = IPv4Block(text), (16...28).contains(block.prefix) else { return false }
                settings.network.subnet = block
                return true
            }
        ),
        Setting(
            path: "network.dns",
            form: "up to three IPv4 addresses, not of loopback, or auto",
            fallback: "auto",
            isLive: true,
            doc: "their resolvers, reachable on port 53 wherever they are; auto is those that the host uses",
            shape: .either(.list, or: "auto"),
            read: { text, settings, _ in
                settings.network.dns = nil
                guard text != "auto" else { return true }
                guard let blocks = IPv4Block.list(text), (1...3).contains(blocks.count),
                    blocks.allSatisfy({ $0.prefix == 32 && !$0.base.isLoopback })
                else { return false }
                settings.network.dns = blocks.map(\.base)
                return true
            }
        ),
        blocks(
            "network.deny",
            \.network.deny,
            "what they may not reach, besides the host itself and what is never public: private, shared, loopback, link-local (with metadata services), multicast and reserved addresses"
        ),
        blocks("network.allow", \.network.allow, "what they may reach nevertheless"),
    ]

    private static func blocks(_ path: String, _ member: Path<[IPv4Block]>, _ doc: String) -> Setting {
        Setting(
            path: path,
            form: "a list of IPv4 addresses and blocks such as '203.0.113.0/24', or none",
            fallback: "none",
            isLive: true,
            doc: doc,
            shape: .either(.list, or: "none"),
            read: { text, settings, _ in
                guard let blocks = text == "none" ? [] : IPv4Block.list(text) else { return false }
                settings[keyPath: member] = blocks
                return true
            }
        )
    }
}
