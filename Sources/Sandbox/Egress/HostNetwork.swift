// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Units

/// What the host's own network says: routes, resolvers, and which interfaces forward.
enum HostNetwork {
    struct Route: Equatable {
        var interface: String
        var destination: IPv4Block
    }

    /// Reads `/proc/net/route`: one route a line, addresses in hexadecimal as they lie in memory.
    ///
    /// ```
    /// Iface  Destination  Gateway   Flags  RefCnt  Use  Metric  Mask      MTU  Window  IRTT
    /// eth0   00000000     010200C0  0003   0       0    0       00000000  0    0       0
    /// ```
    static func routes(_ text: String) -> [Route] {
        text.split(separator: "\n").dropFirst()
            .compactMap { line in
                let fields = line.split(whereSeparator: \.isWhitespace)
                guard fields.count > 7, let base = UInt32(fields[1], radix: 16), let mask = UInt32(fields[7], radix: 16)
                else { return nil }
                let block = IPv4Block(IPv4Address(raw: UInt32(bigEndian: base)), prefix: mask.nonzeroBitCount)
                return Route(interface: String(fields[0]), destination: block)
            }
    }

    static func routes() -> [Route] { routes((try? KernelFile.read("/proc/net/route")) ?? "") }

    /// The files that name resolvers; the second one where the first names systemd's own, which listens on loopback.
    static let resolverFiles = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]

    /// The resolvers that another network namespace can reach, at most three, as libc reads no more.
    static func resolvers(_ text: String) -> [IPv4Address] {
        let named = text.split(separator: "\n")
            .compactMap { line -> IPv4Address? in
                let words = line.split(whereSeparator: \.isWhitespace)
                guard words.count > 1, words[0] == "nameserver" else { return nil }
                return IPv4Address(String(words[1]))
            }
        return Array(named.filter { !$0.isLoopback && $0.raw != 0 }.prefix(3))
    }

    static func resolvers() -> [IPv4Address] {
        for file in resolverFiles {
            let found = resolvers((try? KernelFile.read(file)) ?? "")
            if !found.isEmpty { return found }
        }
        return []
    }

    /// Where packets may leave the host, and so where answers come in: every interface with a route, but Ebb's own.
    static func uplinks() -> [String] {
        Set(routes().map(\.interface).filter { !$0.hasPrefix(EgressNames.prefix) }).sorted()
    }

    // MARK: Forwarding, in the calling thread's network namespace

    /// Whether it forwards as a whole: then every interface does, and it is somebody else's decision.
    static var forwards: Bool { isOne("/proc/sys/net/ipv4/ip_forward") }

    static func forwards(_ interface: String) -> Bool { isOne(path(interface)) }

    static func setForwarding(_ interface: String, _ isOn: Bool) throws(SyscallError) {
        try KernelFile.write(path(interface), isOn ? "1" : "0")
    }

    /// Takes IPv6 from an interface, or with `all` from the namespace; a kernel without it has none to take.
    static func disableIPv6(_ interface: String) throws(SyscallError) {
        do throws(SyscallError) {
            try KernelFile.write("/proc/sys/net/ipv6/conf/\(interface)/disable_ipv6", "1")
        } catch {
            guard error.errno == ENOENT else { throw error }
        }
    }

    private static func path(_ interface: String) -> String { "/proc/sys/net/ipv4/conf/\(interface)/forwarding" }

    private static func isOne(_ path: String) -> Bool { (try? KernelFile.read(path))?.hasPrefix("1") ?? false }
}

/// The names of what one daemon makes on the host. They come from its state directory, which no other daemon uses: so
/// the next one that uses it knows what a killed one has left.
struct EgressNames: Sendable, Equatable {
    static let prefix = "ebb-"

    let tag: String
    /// The interface towards the router; at most 15 characters, as the kernel wants it.
    var link: String { Self.prefix + tag }
    var table: String { "ebb_" + tag }

    init(stateDirectory: String) {
        // FNV-1a: short, and the same in every process, which Swift's own hashes are not.
        let hash = stateDirectory.utf8.reduce(0x811C_9DC5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        let digits = String(hash, radix: 16)
        tag = String(repeating: "0", count: 8 - digits.count) + digits
    }

    /// Where in the subnet it begins to look for a pair of addresses of its own.
    var number: UInt32 { UInt32(tag, radix: 16) ?? 0 }
}
