// SPDX-License-Identifier: Apache-2.0
import CSeccomp
import Glibc
import Linux

/// The system calls a function may make, as one program for the kernel, built once.
///
/// A call that is on no list gets `ENOSYS`, new ones included, so that libc falls back as on an old kernel. libseccomp
/// knows the numbers; the program is ours, because it is loaded at each start and takes a third of the time of what
/// libseccomp makes of the same rules (which the tests compare it with).
package struct SeccompProfile: Sendable {
    /// Instructions of 8 bytes each.
    package let program: [UInt8]

    package init() { program = Self.assembled }

    private static let assembled: [UInt8] = {
        var verdicts: [UInt32: Verdict] = [:]
        func set(_ name: String, _ verdict: Verdict) { number(name).map { verdicts[$0] = verdict } }
        for name in SystemCalls.refused { set(name, .fail(EPERM)) }
        for name in SystemCalls.allowed { set(name, .allow) }
        for (name, verdict) in byArgument { set(name, verdict) }
        var code = ClassicBPF()
        let (unknown, foreign) = (Verdict.fail(ENOSYS), code.place(of: .killProcess))
        // Numbers above all that are known, those of x32 among them (__X32_SYSCALL_BIT), are unknown.
        var start = code.search(verdicts, otherwise: unknown)
        #if arch(x86_64)
        let architecture: UInt32 = 0xC000_003E  // AUDIT_ARCH_X86_64
        #else
        let architecture: UInt32 = 0xC000_00B7  // AUDIT_ARCH_AARCH64
        #endif
        start = code.load(.number, then: start)
        // Calls of another architecture, whose numbers mean other things, end the process; not only the thread: a program
        // that lost one would hang.
        start = code.test(.equal(architecture), then: start, otherwise: foreign)
        code.load(.architecture, then: start)
        return code.bytes
    }()

    /// `nil` for a name that this machine's libseccomp does not know, or its architecture does not have.
    private static func number(_ name: String) -> UInt32? {
        UInt32(exactly: unsafe seccomp_syscall_resolve_name(name))
    }

    // MARK: What depends on arguments

    /// Of these arguments only the low 32 bits count for the kernel, so only they are compared: CVE-2019-10063 was a
    /// comparison of all 64.
    private static let byArgument: [(name: String, verdict: Verdict)] =
        [
            // A new namespace: any of these flags. `clone3`, whose flags no filter can see, is not allowed at all.
            // 0x80 would be CLONE_NEWTIME; to `clone` it is part of the signal at the end, and no signal has it.
            ("clone", .bits(argument: 0, 0x7E02_0080, then: .fail(EPERM), otherwise: .allow)),
            // Which execution domain it is may be asked, not changed: one of them turns address randomisation off.
            ("personality", only([0xFFFF_FFFF], of: 0, else: .fail(EPERM))),
            // Terminals: TIOCSTI, TIOCLINUX, TIOCSETD.
            ("ioctl", all(but: 0x5412, 0x541C, 0x5423, of: 1)),
            ("socket", socket),
            ("socketpair", only([1], of: 0, else: .fail(EAFNOSUPPORT))),
            ("setsockopt", option),
        ]
        // MSG_OOB: out-of-band data on UNIX sockets has led out of sandboxes (CVE-2025-38236).
        + [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3), ("recvfrom", 3), ("recvmsg", 2), ("recvmmsg", 3)]
        .map { ($0.0, .bits(argument: $0.1, 1, then: .fail(EOPNOTSUPP), otherwise: .allow)) }

    private static func only(_ values: [UInt32], of argument: Int, else verdict: Verdict) -> Verdict {
        .value(argument: argument, values.map { .init(value: $0, verdict: .allow) }, otherwise: verdict)
    }

    /// UNIX, IPv4 with TCP and UDP, and rtnetlink to list addresses: no AF_ALG, AF_VSOCK, AF_PACKET, RDS, SMC, raw or
    /// multipath sockets. Programs that try those hear what a kernel without them says.
    private static let socket = Verdict.value(
        argument: 0,
        [
            .init(value: 1, verdict: .allow),
            .init(value: 2, verdict: only([0, 6, 17], of: 2, else: .fail(EPROTONOSUPPORT))),
            .init(value: 16, verdict: only([0], of: 2, else: .fail(EPROTONOSUPPORT))),
        ],
        otherwise: .fail(EAFNOSUPPORT)
    )

    /// Levels: IP, SOCKET, TCP, UDP, IPv6; not ALG, nor any other. Of TCP not the upper layer protocols (TCP_ULP), of UDP
    /// not ESP (UDP_ENCAP): the way to page-cache writes of 2026.
    private static let option = Verdict.value(
        argument: 1,
        [
            .init(value: 0, verdict: .allow),
            .init(value: 1, verdict: .allow),
            .init(value: 6, verdict: all(but: 31, of: 2)),
            .init(value: 17, verdict: all(but: 100, of: 2)),
            .init(value: 41, verdict: .allow),
        ],
        otherwise: .fail(ENOPROTOOPT)
    )

    private static func all(but values: UInt32..., of argument: Int) -> Verdict {
        .value(argument: argument, values.map { .init(value: $0, verdict: .fail(EPERM)) }, otherwise: .allow)
    }
}
