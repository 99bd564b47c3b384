// SPDX-License-Identifier: Apache-2.0
import CLinux
import CSeccomp
import Glibc
import Linux

@testable import Sandbox

/// The profile's rules in libseccomp's words, and the programs that libseccomp makes of them: another opinion.
///
/// Two programs, because the kernel takes the stricter answer of all that are loaded, and libseccomp has no way to say
/// "all but these" of an argument: the first allows, the second refuses single arguments of what the first allows.
enum LibseccompProfile {
    static func programs() throws -> [[UInt8]] { [try allowed(), try refused()] }

    // MARK: What is allowed

    private static func allowed() throws -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .fail(ENOSYS))
        for name in SystemCalls.allowed { try filter.add(name, .allow) }
        for name in SystemCalls.refused { try filter.add(name, .fail(EPERM)) }
        for name in ["clone"] + outOfBand.map(\.call) { try filter.add(name, .allow) }  // some of it is refused below
        // Which execution domain it is may be asked, not changed: one of them turns address randomisation off.
        try filter.add("personality", .allow, [.low(0, equals: 0xFFFF_FFFF)])
        try filter.add("personality", .fail(EPERM), [.below(0, 0xFFFF_FFFF)])
        try sockets(filter)
        // Socket options by level: IP, SOCKET, TCP, UDP, IPv6; two of them are refused below. Not ALG, nor any other.
        let levels: Set<UInt32> = [0, 1, 6, 17, 41]
        for level in levels.sorted() { try filter.add("setsockopt", .allow, [.low(1, equals: level)]) }
        for level in Set(0...41).subtracting(levels).sorted() {
            try filter.add("setsockopt", .fail(ENOPROTOOPT), [.low(1, equals: level)])
        }
        try filter.add("setsockopt", .fail(ENOPROTOOPT), [.above(1, 41)])
        return try filter.export()
    }

    /// UNIX, IPv4 with TCP and UDP, and rtnetlink to list addresses: no AF_ALG, AF_VSOCK, AF_PACKET, RDS, SMC, raw or
    /// multipath sockets. Programs that try those hear what a kernel without them says.
    private static func sockets(_ filter: SeccompFilter) throws {
        let (unix, internet, netlink) = (UInt32(1), UInt32(2), UInt32(16))
        let protocols: Set<UInt32> = [0, 6, 17]
        try filter.add("socket", .allow, [.low(0, equals: unix)])
        for number in protocols.sorted() {
            try filter.add("socket", .allow, [.low(0, equals: internet), .low(2, equals: number)])
        }
        for number in Set(0...17).subtracting(protocols).sorted() {
            try filter.add(
                "socket",
                .fail(EPROTONOSUPPORT),
                [.low(0, equals: internet), .low(2, equals: number)]
            )
        }
        try filter.add("socket", .fail(EPROTONOSUPPORT), [.low(0, equals: internet), .above(2, 17)])
        try filter.add("socket", .allow, [.low(0, equals: netlink), .low(2, equals: 0)])
        try filter.add("socket", .fail(EPROTONOSUPPORT), [.low(0, equals: netlink), .above(2, 0)])
        for family in Set(0...45).subtracting([unix, internet, netlink]).sorted() {
            try filter.add("socket", .fail(EAFNOSUPPORT), [.low(0, equals: family)])
        }
        try filter.add("socket", .fail(EAFNOSUPPORT), [.above(0, 45)])
        try filter.add("socketpair", .allow, [.low(0, equals: unix)])
        try filter.add("socketpair", .fail(EAFNOSUPPORT), [.low(0, equals: 0)])
        try filter.add("socketpair", .fail(EAFNOSUPPORT), [.above(0, 1)])
    }

    // MARK: What is refused of that

    /// The flags of `clone` that make a namespace; `clone3`, whose flags no filter can see, is not allowed at all.
    /// `CLONE_NEWTIME` (0x80) is none of them: to `clone` those bits are the signal at the end.
    private static let namespaceFlags: [UInt32] = [
        0x0000_0080, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000,
    ]

    /// The calls whose flags may ask for out-of-band data, and which argument those are.
    private static let outOfBand: [(call: String, flags: UInt32)] = [
        ("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3), ("recvfrom", 3), ("recvmsg", 2), ("recvmmsg", 3),
    ]

    private static func refused() throws -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .allow)
        for flag in namespaceFlags { try filter.add("clone", .fail(EPERM), [.bit(0, flag)]) }
        // Only the low 32 bits of these arguments count for the kernel, so only they are compared: CVE-2019-10063 was a
        // comparison of all 64. Terminals: TIOCSTI, TIOCLINUX, TIOCSETD.
        for request: UInt32 in [0x5412, 0x541C, 0x5423] {
            try filter.add("ioctl", .fail(EPERM), [.low(1, equals: request)])
        }
        // TCP_ULP (upper layer protocols) and UDP_ENCAP (ESP in UDP): the way to page-cache writes of 2026.
        for (level, option) in [(6, 31), (17, 100)] as [(UInt32, UInt32)] {
            try filter.add("setsockopt", .fail(EPERM), [.low(1, equals: level), .low(2, equals: option)])
        }
        // MSG_OOB: out-of-band data on UNIX sockets has led out of sandboxes (CVE-2025-38236).
        for (call, flags) in outOfBand { try filter.add(call, .fail(EOPNOTSUPP), [.bit(flags, 1)]) }
        return try filter.export()
    }
}

/// What libseccomp would not do.
private struct Problem: Error {
    let what: String
    init(_ what: String) { self.what = what }
}

/// One filter under construction.
@safe private final class SeccompFilter {
    enum Action {
        case allow
        case fail(Int32)

        var raw: UInt32 {
            switch self {
            case .allow: 0x7FFF_0000  // SCMP_ACT_ALLOW
            case .fail(let error): ebb_seccomp_errno(UInt16(error))
            }
        }
    }

    /// What an argument is compared with. For an `int` the kernel looks at the low 32 bits, and so do `low` and `bit`.
    enum Condition {
        case low(UInt32, equals: UInt32)
        case bit(UInt32, UInt32)
        /// All 64 bits: what the kernel would cut off counts as too large.
        case above(UInt32, UInt64)
        /// All 64 bits too.
        case below(UInt32, UInt64)

        var raw: scmp_arg_cmp {
            switch self {
            case .low(let index, equals: let value):
                scmp_arg_cmp(arg: index, op: SCMP_CMP_MASKED_EQ, datum_a: 0xFFFF_FFFF, datum_b: UInt64(value))
            case .bit(let index, let bit):
                scmp_arg_cmp(arg: index, op: SCMP_CMP_MASKED_EQ, datum_a: UInt64(bit), datum_b: UInt64(bit))
            case .above(let index, let value):
                scmp_arg_cmp(arg: index, op: SCMP_CMP_GT, datum_a: value, datum_b: 0)
            case .below(let index, let value):
                scmp_arg_cmp(arg: index, op: SCMP_CMP_LT, datum_a: value, datum_b: 0)
            }
        }
    }

    private let context: scmp_filter_ctx

    init(otherwise action: Action) throws {
        guard let context = unsafe seccomp_init(action.raw) else {
            throw Problem("libseccomp could not be initialised")
        }
        unsafe self.context = unsafe context
        let result = unsafe seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, 0x8000_0000)  // SCMP_ACT_KILL_PROCESS
        guard result == 0 else { throw Problem("libseccomp 2.5 or newer is needed") }
    }

    deinit { unsafe seccomp_release(context) }

    /// Adds a rule; a name that this machine's libseccomp does not know, or its architecture does not have, is left out.
    func add(_ name: String, _ action: Action, _ conditions: [Condition] = []) throws {
        let number = unsafe seccomp_syscall_resolve_name(name)
        guard number >= 0 else { return }
        let raw = conditions.map(\.raw)
        let result = unsafe seccomp_rule_add_array(context, action.raw, number, UInt32(raw.count), raw)
        // The same action as the filter's own is refused with EACCES, and changes nothing.
        guard result == 0 || result == -EACCES else { throw Problem("\(name): error \(-result)") }
    }

    func export() throws -> [UInt8] {
        let fd = unsafe clinux_memfd("seccomp")
        guard fd >= 0 else { throw Problem("memfd_create: error \(errno)") }
        let file = Descriptor(owning: fd)
        let result = unsafe seccomp_export_bpf(context, file.raw)
        guard result == 0 else { throw Problem("export: error \(-result)") }
        let size = Int(lseek(file.raw, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: size)
        let count = unsafe pread(file.raw, &bytes, size, 0)
        guard count == size, size > 0, size % 8 == 0 else {
            throw Problem("export: \(count) of \(size) bytes")
        }
        return bytes
    }
}
