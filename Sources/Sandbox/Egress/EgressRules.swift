// SPDX-License-Identifier: Apache-2.0
import Units

/// The rules in nft's language (nft(8)). Pure: text from values, so that every line can be looked at in a test.
///
/// Two tables have them: the router's, which knows each sandbox by its interface and address, and the host's, which
/// sees a packet again after whatever the host translates (a published port of a container, a metadata proxy).
struct EgressRules: Sendable {
    /// The router's table; nobody else is in its namespace.
    static let routerTable = "ebb"
    /// How many connections one sandbox may have: the host's table of connections has to do for all.
    static let connectionLimit = 1024

    var sets: EgressSets

    /// In the router's namespace.
    var router: String {
        """
        \(Self.anew(Self.routerTable))
        table inet \(Self.routerTable) {
        \(definitions)
            set connections { type ipv4_addr; size 65535; flags dynamic; }
            chain prerouting {
                type filter hook prerouting priority raw; policy accept;
                # A sandbox speaks for its own address alone: the one that the route back to it has.
                iifname "ebb-*" fib saddr . iif oif missing drop
            }
            chain forward {
                type filter hook forward priority filter; policy drop;
                iifname "\(EgressRouter.uplink)" oifname "ebb-*" ct state established,related accept
                iifname "ebb-*" oifname "\(EgressRouter.uplink)" jump egress
                iifname "ebb-*" goto refuse
            }
            chain egress {
                meta nfproto != ipv4 drop
                ct state invalid drop
                # The source address as a number: by it the connections of a sandbox that has ended are forgotten.
                ct mark set @nh,96,32
                ct state new add @connections { ip saddr ct count over \(Self.connectionLimit) } goto refuse
        \(destinations)
                accept
            }
            chain input {
                type filter hook input priority filter; policy drop;
                iifname "ebb-*" goto refuse
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname "\(EgressRouter.uplink)" masquerade
            }
        }

        """
    }

    /// In the host's namespace.
    ///
    /// - Parameters:
    ///   - table: its name.
    ///   - link: the interface that leads to the router.
    ///   - transit: the router's address on it.
    func host(table: String, link: String, transit: IPv4Address) -> String {
        """
        \(Self.anew(table))
        table inet \(table) {
        \(definitions)
            # Interfaces that forward because Ebb needs it; from them, packets go to Ebb's links and nowhere else.
            set uplinks { type ifname; }
            chain forward {
                type filter hook forward priority filter; policy accept;
                iifname @uplinks oifname != "ebb-*" drop
                iifname "\(link)" jump egress
                oifname "\(link)" ct state established,related accept
                oifname "\(link)" drop
            }
            chain egress {
                meta nfproto != ipv4 drop
                oifname "ebb-*" goto refuse
        \(destinations)
                accept
            }
            chain input {
                type filter hook input priority filter; policy accept;
                iifname "\(link)" goto own
            }
            # The host itself.
            chain own {
                ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
                ip daddr @allow accept
                goto refuse
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr \(transit) oifname != "\(link)" masquerade
            }
        }

        """
    }

    /// What replaces the sets of a table that is in use, at one stroke.
    func edit(table: String) -> String {
        ([
            ("deny", sets.deny.map(\.description)), ("allow", sets.allow.map(\.description)),
            ("resolvers", sets.resolvers.map(\.description)),
        ])
        .map { Self.refill(table: table, set: $0.0, $0.1) }.joined()
    }

    static func uplinks(table: String, _ names: [String]) -> String {
        refill(table: table, set: "uplinks", names.map { "\"\($0)\"" })
    }

    /// Removes a table, which need not be there.
    static func remove(table: String) -> String { anew(table) + "\n" }

    private static func refill(table: String, set: String, _ elements: [String]) -> String {
        "flush set inet \(table) \(set)\n"
            + (elements.isEmpty ? "" : "add element inet \(table) \(set) { \(elements.joined(separator: ", ")) }\n")
    }

    /// Made so that it can be deleted, which fails where there is none.
    private static func anew(_ table: String) -> String { "table inet \(table) { }\ndelete table inet \(table)" }

    /// What all tables have in common.
    private var definitions: String {
        func set(_ name: String, _ flags: String, _ elements: [String]) -> String {
            let contents = elements.isEmpty ? "" : " elements = { \(elements.joined(separator: ", ")) };"
            return "    set \(name) { type ipv4_addr;\(flags)\(contents) }"
        }
        // An answer, so that a function gets an error at once and not a timeout. To TCP one that also ends connections
        // that exist, when an address was denied meanwhile; the kernel takes a filter's word there for a passing
        // trouble.
        let refuse = """
                chain refuse {
                    meta l4proto tcp reject with tcp reset
                    reject with icmpx admin-prohibited
                }
            """
        return [
            refuse, set("deny", " flags interval;", sets.deny.map(\.description)),
            set("allow", " flags interval;", sets.allow.map(\.description)),
            set("resolvers", "", sets.resolvers.map(\.description)),
        ]
        .joined(separator: "\n")
    }

    /// Where it may go; looked at for every packet, so that what is denied meanwhile ends.
    private var destinations: String {
        """
                ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
                ip daddr @allow accept
                ip daddr @deny goto refuse
        """
    }
}
