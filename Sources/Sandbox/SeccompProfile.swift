// SPDX-License-Identifier: Apache-2.0
import CLinux
import CSeccomp
import Glibc
import Linux

/// The system calls a function may make, as programs for the kernel, built once with libseccomp.
///
/// Two programs, because the kernel takes the stricter answer of all that are loaded: the first allows what is listed
/// and answers `ENOSYS` to everything else, new system calls included, so that libc falls back as on an old kernel; the
/// second refuses single arguments of calls that the first allows.
package struct SeccompProfile: Sendable {
    /// Programs of 8-byte instructions, in the order in which they are loaded.
    package let programs: [[UInt8]]

    package init() throws(SandboxError) {
        programs = [try Self.allowed(), try Self.refused()]
    }

    private static func allowed() throws(SandboxError) -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .fail(ENOSYS))
        for name in SystemCalls.allowed { try filter.add(name, .allow) }
        // A child of clone may not be born into new namespaces; clone3, whose flags no filter can see, is not listed.
        try filter.add("clone", .allow, [.masked(0, 0x7E02_0080, 0)])
        try filter.add("personality", .allow, [.equal(0, 0xFFFF_FFFF)])
        try filter.add("personality", .allow, [.equal(0, 0)])
        // Sockets: UNIX and IPv4 with TCP and UDP, and rtnetlink to list addresses. No AF_ALG, AF_VSOCK, AF_PACKET, RDS…
        try filter.add("socket", .allow, [.equal(0, 1)])
        for proto: UInt64 in [0, 6, 17] { try filter.add("socket", .allow, [.equal(0, 2), .equal(2, proto)]) }
        try filter.add("socket", .allow, [.equal(0, 16), .equal(2, 0)])
        for family: UInt64 in 3...45 where family != 16 {
            try filter.add("socket", .fail(EAFNOSUPPORT), [.equal(0, family)])
        }
        try filter.add("socketpair", .allow, [.equal(0, 1)])
        // Out-of-band data on UNIX sockets has led out of sandboxes (CVE-2025-38236).
        for (call, flags) in [
            ("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3), ("recvfrom", 3), ("recvmsg", 2), ("recvmmsg", 3),
        ] {
            try filter.add(call, .allow, [.masked(UInt32(flags), 1, 0)])
        }
        // Socket options by level: IP, SOCKET, TCP, UDP, IPv6. Two options of them are refused below.
        for level: UInt64 in [0, 1, 6, 17, 41] { try filter.add("setsockopt", .allow, [.equal(1, level)]) }
        return try filter.export()
    }

    private static func refused() throws(SandboxError) -> [UInt8] {
        let filter = try SeccompFilter(otherwise: .allow)
        // Only the low 32 bits of these arguments count for the kernel, so only they are compared: CVE-2019-10063 was a
        // comparison of all 64. Terminals: TIOCSTI, TIOCLINUX, TIOCSETD.
        for request: UInt64 in [0x5412, 0x541C, 0x5423] {
            try filter.add("ioctl", .fail(EPERM), [.masked(1, 0xFFFF_FFFF, request)])
        }
        // TCP_ULP (upper layer protocols) and UDP_ENCAP (ESP in UDP): the way to page-cache writes of 2026.
        for (level, option) in [(6, 31), (17, 100)] as [(UInt64, UInt64)] {
            try filter.add(
                "setsockopt",
                .fail(EPERM),
                [.masked(1, 0xFFFF_FFFF, level), .masked(2, 0xFFFF_FFFF, option)]
            )
        }
        for name in SystemCalls.refused { try filter.add(name, .fail(EPERM)) }
        return try filter.export()
    }
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

    enum Condition {
        case equal(UInt32, UInt64)
        /// The bits of the mask have this value.
        case masked(UInt32, UInt64, UInt64)

        var raw: scmp_arg_cmp {
            switch self {
            case .equal(let index, let value): scmp_arg_cmp(arg: index, op: SCMP_CMP_EQ, datum_a: value, datum_b: 0)
            case .masked(let index, let mask, let value):
                scmp_arg_cmp(arg: index, op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
            }
        }
    }

    private let context: scmp_filter_ctx

    init(otherwise action: Action) throws(SandboxError) {
        guard let context = unsafe seccomp_init(action.raw) else {
            throw .seccomp("libseccomp could not be initialised")
        }
        unsafe self.context = unsafe context
        // A binary tree over the system call numbers: 92 µs to load, against 275 µs for a list.
        _ = unsafe seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
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
