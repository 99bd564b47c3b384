// SPDX-License-Identifier: Apache-2.0
import CLinux
import CSeccomp
import Glibc
import Linux

/// The system calls a function may make, as programs for the kernel, built once with libseccomp.
///
/// Two programs, because the kernel takes the stricter answer of all that are loaded, and libseccomp has no way to say
/// "all but these" of an argument: the first allows what is listed and answers `ENOSYS` to everything else, new system
/// calls included, so that libc falls back as on an old kernel; the second, a small one, refuses single arguments of
/// calls that the first allows.
package struct SeccompProfile: Sendable {
    /// Programs of 8-byte instructions, in the order in which they are loaded.
    package let programs: [[UInt8]]

    package init() throws(SandboxError) { try self.init(optimization: SeccompFilter.tree) }

    /// - Parameter optimization: libseccomp's word for how numbers are searched (`SCMP_FLTATR_CTL_OPTIMIZE`).
    init(optimization: UInt32) throws(SandboxError) {
        programs = [try Self.allowed(optimization), try Self.refused(optimization)].map { Self.prologue + $0 }
    }

    // MARK: What is allowed

    private static func allowed(_ optimization: UInt32) throws(SandboxError) -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .fail(ENOSYS), optimization: optimization)
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
    private static func sockets(_ filter: SeccompFilter) throws(SandboxError) {
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

    private static func refused(_ optimization: UInt32) throws(SandboxError) -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .allow, optimization: optimization)
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

    // MARK: What both begin with

    /// Before libseccomp's own instructions, which would kill for both: calls of another architecture, whose numbers mean
    /// other things, end the process; x32's numbers on x86-64 do not exist. runc patches its programs likewise.
    private static var prologue: [UInt8] {
        var code = ClassicBPF()
        code.load(4)  // seccomp_data.arch
        #if arch(x86_64)
        code.skip(1, ifEqual: 0xC000_003E)  // AUDIT_ARCH_X86_64
        code.answer(0x8000_0000)  // SECCOMP_RET_KILL_PROCESS
        code.load(0)  // seccomp_data.nr
        code.skip(1, ifBelow: 0x4000_0000)  // __X32_SYSCALL_BIT
        code.answer(0x0005_0000 | UInt32(ENOSYS))  // SECCOMP_RET_ERRNO
        #else
        code.skip(1, ifEqual: 0xC000_00B7)  // AUDIT_ARCH_AARCH64
        code.answer(0x8000_0000)
        #endif
        return code.bytes
    }
}

/// Instructions of the kernel's classic BPF (include/uapi/linux/filter.h): 16 bits of code, two jumps of 8, 32 of value.
private struct ClassicBPF {
    private(set) var bytes: [UInt8] = []

    private mutating func append(_ code: UInt16, _ whenTrue: UInt8, _ whenFalse: UInt8, _ value: UInt32) {
        bytes += [UInt8(code & 0xFF), UInt8(code >> 8), whenTrue, whenFalse]
        bytes += (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    mutating func load(_ offset: UInt32) { append(0x20, 0, 0, offset) }
    mutating func skip(_ count: UInt8, ifEqual value: UInt32) { append(0x15, count, 0, value) }
    mutating func skip(_ count: UInt8, ifBelow value: UInt32) { append(0x35, 0, count, value) }
    mutating func answer(_ value: UInt32) { append(0x06, 0, 0, value) }
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

    /// A binary tree over the system call numbers, rather than a list: cheaper to load and to run.
    static let tree: UInt32 = 2

    init(otherwise action: Action, optimization: UInt32) throws(SandboxError) {
        guard let context = unsafe seccomp_init(action.raw) else {
            throw .seccomp("libseccomp could not be initialised")
        }
        unsafe self.context = unsafe context
        let attributes = unsafe [
            seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, optimization),
            // Instead of the thread: a program that lost one would hang.
            seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, 0x8000_0000),  // SCMP_ACT_KILL_PROCESS
        ]
        guard attributes.allSatisfy({ $0 == 0 }) else { throw .seccomp("libseccomp 2.5 or newer is needed") }
    }

    deinit { unsafe seccomp_release(context) }

    /// Adds a rule; a name that this machine's libseccomp does not know, or its architecture does not have, is left out.
    func add(_ name: String, _ action: Action, _ conditions: [Condition] = []) throws(SandboxError) {
        let number = unsafe seccomp_syscall_resolve_name(name)
        guard number >= 0 else { return }
        let raw = conditions.map(\.raw)
        let result = unsafe seccomp_rule_add_array(context, action.raw, number, UInt32(raw.count), raw)
        // The same action as the filter's own is refused with EACCES, and changes nothing.
        guard result == 0 || result == -EACCES else { throw .seccomp("\(name): error \(-result)") }
    }

    func export() throws(SandboxError) -> [UInt8] {
        let fd = unsafe clinux_memfd("seccomp")
        guard fd >= 0 else { throw .seccomp("memfd_create: error \(errno)") }
        let file = Descriptor(owning: fd)
        let result = unsafe seccomp_export_bpf(context, file.raw)
        guard result == 0 else { throw .seccomp("export: error \(-result)") }
        let size = Int(lseek(file.raw, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: size)
        let count = unsafe pread(file.raw, &bytes, size, 0)
        guard count == size, size > 0, size % 8 == 0 else { throw .seccomp("export: \(count) of \(size) bytes") }
        return bytes
    }
}
