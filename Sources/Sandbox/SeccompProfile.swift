// SPDX-License-Identifier: Apache-2.0
import CLinux
import CSeccomp
import Glibc
import Linux

/// The system calls a function may make, as one program for the kernel, built once.
///
/// What depends on arguments are rules of libseccomp's, in two parts, because it has no way to say "all but these" of an
/// argument: the first allows what is listed, the second refuses some of what is allowed. Which calls those are, and what
/// becomes of all others, a search over the numbers tells before them (`ClassicBPF.search`): numbers side by side have
/// mostly the same answer, and what is loaded at each start should be short. A call that is on no list gets `ENOSYS`, new
/// ones included, so that libc falls back as on an old kernel.
package struct SeccompProfile: Sendable {
    /// Instructions of 8 bytes each.
    package let program: [UInt8]

    package init() throws(SandboxError) { try self.init(optimization: SeccompFilter.tree) }

    /// - Parameter optimization: libseccomp's word for how its own parts are searched (`SCMP_FLTATR_CTL_OPTIMIZE`).
    init(optimization: UInt32) throws(SandboxError) {
        let allowed = try Self.allowedArguments(optimization)
        let refused = try Self.refusedArguments(optimization)
        var answers: [UInt32: ClassicBPF.Answer] = [:]
        for name in SystemCalls.refused { SeccompFilter.number(name).map { answers[$0] = .fail(EPERM) } }
        for name in SystemCalls.allowed { SeccompFilter.number(name).map { answers[$0] = .allow } }
        for number in refused.numbers { answers[number] = .part(1) }
        for number in allowed.numbers { answers[number] = .part(0) }
        var code = ClassicBPF(Self.prologue)
        code.search(
            answers,
            otherwise: .fail(ENOSYS),
            parts: [
                // What the first part allows the second may still refuse.
                try allowed.export(), try refused.export(),
            ]
        )
        program = code.bytes
    }

    // MARK: What is allowed of those that are asked for their arguments

    private static func allowedArguments(_ optimization: UInt32) throws(SandboxError) -> SeccompFilter {
        let filter = try SeccompFilter(otherwise: .fail(ENOSYS), optimization: optimization)
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
        return filter
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

    private static func refusedArguments(_ optimization: UInt32) throws(SandboxError) -> SeccompFilter {
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
        return filter
    }

    // MARK: What it begins with

    /// Before libseccomp's own instructions, which would kill for x32's numbers too: calls of another architecture, whose numbers mean
    /// other things, end the process; x32's numbers on x86-64 do not exist. runc patches its programs likewise.
    private static var prologue: [ClassicBPF.Instruction] {
        let (load, equal, atLeast) = (ClassicBPF.load, ClassicBPF.equal, ClassicBPF.atLeast)
        let answer = ClassicBPF.answer
        #if arch(x86_64)
        return [
            load(4),  // seccomp_data.arch
            equal(0xC000_003E, 1, 0),  // AUDIT_ARCH_X86_64
            answer(ClassicBPF.Answer.killProcess),
            load(0),  // seccomp_data.nr
            atLeast(0x4000_0000, 0, 1),  // __X32_SYSCALL_BIT
            answer(ClassicBPF.Answer.fail(ENOSYS).raw),
        ]
        #else
        return [
            load(4),
            equal(0xC000_00B7, 1, 0),  // AUDIT_ARCH_AARCH64
            answer(ClassicBPF.Answer.killProcess),
            load(0),
        ]
        #endif
    }
}

/// One filter under construction.
@safe private final class SeccompFilter {
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
    /// The calls that it has rules for.
    private(set) var numbers: Set<UInt32> = []

    /// A binary tree over the system call numbers, rather than a list: cheaper to load and to run.
    static let tree: UInt32 = 2

    init(otherwise action: ClassicBPF.Answer, optimization: UInt32) throws(SandboxError) {
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

    /// `nil` for a name that this machine's libseccomp does not know, or its architecture does not have.
    static func number(_ name: String) -> UInt32? { UInt32(exactly: unsafe seccomp_syscall_resolve_name(name)) }

    /// Adds a rule; a name without a number is left out.
    func add(_ name: String, _ action: ClassicBPF.Answer, _ conditions: [Condition] = []) throws(SandboxError) {
        guard let number = Self.number(name) else { return }
        numbers.insert(number)
        let raw = conditions.map(\.raw)
        let result = unsafe seccomp_rule_add_array(context, action.raw, CInt(number), UInt32(raw.count), raw)
        // The same action as the filter's own is refused with EACCES, and changes nothing.
        guard result == 0 || result == -EACCES else { throw .seccomp("\(name): error \(-result)") }
    }

    func export() throws(SandboxError) -> [ClassicBPF.Instruction] {
        let fd = unsafe clinux_memfd("seccomp")
        guard fd >= 0 else { throw .seccomp("memfd_create: error \(errno)") }
        let file = Descriptor(owning: fd)
        let result = unsafe seccomp_export_bpf(context, file.raw)
        guard result == 0 else { throw .seccomp("export: error \(-result)") }
        let size = Int(lseek(file.raw, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: size)
        let count = unsafe pread(file.raw, &bytes, size, 0)
        guard count == size, size > 0, size % 8 == 0 else { throw .seccomp("export: \(count) of \(size) bytes") }
        return ClassicBPF(bytes).instructions
    }
}
