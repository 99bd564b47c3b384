// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import Sandbox

@Suite("The system calls of a function")
struct SeccompTests {
    let machine: FilterMachine
    private let high: UInt64 = 1 << 32

    init() { machine = FilterMachine(programs: [SeccompProfile().program]) }

    private func error(_ number: Int32) -> FilterMachine.Answer { .error(UInt32(number)) }

    @Test("the program is as short as what is loaded at each start should be")
    func size() {
        #expect((1...130).contains(SeccompProfile().program.count / 8), "the kernel takes 4096 (BPF_MAXINSNS)")
    }

    @Test("a search over many numbers finds each, however far it has to jump")
    func search() {
        let kinds: [Verdict] = [
            .allow, .fail(1),
            .value(
                argument: 0,
                [.init(value: 7, verdict: .fail(2)), .init(value: 8, verdict: .allow)],
                otherwise: .fail(3)
            ),
            .bits(argument: 1, 6, then: .value(argument: 0, [], otherwise: .fail(4)), otherwise: .allow),
        ]
        func kind(_ number: Int) -> Int { number * number / 7 % 4 }
        var code = ClassicBPF()
        let verdicts = Dictionary(uniqueKeysWithValues: (0..<2000).map { (UInt32($0), kinds[kind($0)]) })
        code.load(.number, then: code.search(verdicts, otherwise: .fail(ENOSYS)))
        let machine = FilterMachine(programs: [code.bytes])
        for number in 0..<2100 {
            for (first, second) in [(7, 0), (8, 2), (high | 7, 4), (0, 1), (9, high | 2)] as [(UInt64, UInt64)] {
                let expected: FilterMachine.Answer =
                    switch number < 2000 ? kind(number) : 4 {
                    case 0: .allow
                    case 1: error(1)
                    case 2: first & 0xFF == 7 ? error(2) : first == 8 ? .allow : error(3)
                    case 3: second & 6 != 0 ? error(4) : .allow
                    default: error(ENOSYS)
                    }
                #expect(machine.answer(number: number, [first, second]) == expected, "\(number) \(first) \(second)")
            }
        }
    }

    @Test("no call is both allowed and refused, and each does what its list says")
    func lists() {
        let allowed = Set(SystemCalls.allowed)
        #expect(allowed.isDisjoint(with: SystemCalls.refused))
        #expect(allowed.count == SystemCalls.allowed.count, "one is listed twice")
        // With arguments that no rule is about; names that this libseccomp does not know resolve to -1 or lower.
        for name in SystemCalls.allowed where machine.number(name) >= 0 {
            #expect(machine.answer(name, 3, 0, 0) == .allow, "\(name)")
        }
        for name in SystemCalls.refused where machine.number(name) >= 0 {
            #expect(machine.answer(name) == error(EPERM), "\(name)")
        }
    }

    @Test(
        "a call that is on no list does not exist, whatever the kernel has",
        arguments: [435, 457, 458, 462, 500, 9999]
    )
    func unknown(number: Int) {
        #expect(machine.answer(number: number) == error(ENOSYS))
    }

    @Test("libseccomp comes to the same answers from the same rules")
    func secondOpinion() throws {
        let other = FilterMachine(programs: try LibseccompProfile.programs())
        func compare(_ number: Int, _ arguments: [UInt64]) {
            let expected = other.answer(number: number, arguments)
            #expect(expected != nil)
            #expect(machine.answer(number: number, arguments) == expected, "\(number) \(arguments)")
        }
        let arguments: [[UInt64]] = [
            [], [1], [2, 1, 6], [3, 6, 31], [3, 17, 100], [0, 0x5412], [0, 0x541C], [0, high | 0x5423], [1, 2, 1, 1],
            [1, 2, 3, high | 1], [0xFFFF_FFFF], [0xFFFF_FFFE], [1 << 7], [1 << 17], [1 << 30 | 0x11], [1 << 31],
        ]
        for number in -1...520 { for arguments in arguments { compare(number, arguments) } }
        for family: UInt64 in 0...46 {
            for kind: UInt64 in 0...18 { compare(machine.number("socket"), [family, 1, kind]) }
            compare(machine.number("socketpair"), [family, 1, 0])
            for option: UInt64 in [0, 31, 100] { compare(machine.number("setsockopt"), [3, family, option]) }
        }
    }

    @Test("calls of another architecture end the process")
    func architectures() {
        for arch: UInt32 in [0x4000_0003, 0x4000_0028, 0xC000_003E ^ 1, 0] {  // i386, arm, and none
            #expect(machine.answer(number: 39, arch: arch) == .kill)
        }
    }

    #if arch(x86_64)
    @Test("x32's numbers do not exist", arguments: [0x4000_0000, 0x4000_0001, 0x4000_0209, 0x7FFF_FFFF, -1])
    func x32(number: Int) {
        #expect(machine.answer(number: number) == error(ENOSYS))
    }
    #endif

    @Test("a child of clone is born into no new namespace")
    func clone() {
        #expect(machine.answer("clone", 0x11) == .allow)
        #expect(machine.answer("clone", 0x003D_0F00) == .allow, "a thread, as glibc makes one")
        #expect(machine.answer("clone", 0x4111) == .allow, "vfork, as posix_spawn does")
        for shift: UInt64 in [7, 17, 25, 26, 27, 28, 29, 30] {
            #expect(machine.answer("clone", 1 << shift | 0x11) == error(EPERM))
            #expect(machine.answer("clone", high | 1 << shift) == error(EPERM))
            #expect(machine.answer("clone", 0x003D_0F00 | 1 << shift) == error(EPERM))
        }
        #expect(machine.answer("clone3", 0x11) == error(ENOSYS))
    }

    @Test("of the socket families there are UNIX, IPv4 and rtnetlink", arguments: UInt64(0)...60)
    func families(family: UInt64) {
        let expected: FilterMachine.Answer = [1, 2, 16].contains(family) ? .allow : error(EAFNOSUPPORT)
        for type: UInt64 in [1, 2, 0x80801] {
            #expect(machine.answer("socket", family, type, 0) == expected)
            if expected != .allow { #expect(machine.answer("socket", high | family, type, 0) == expected) }
        }
        #expect(machine.answer("socketpair", family, 1, 0) == (family == 1 ? .allow : error(EAFNOSUPPORT)))
    }

    @Test("of the protocols there are TCP and UDP", arguments: UInt64(0)...300)
    func protocols(number: UInt64) {
        let isKnown = [0, 6, 17].contains(number)
        #expect(machine.answer("socket", 2, 1, number) == (isKnown ? .allow : error(EPROTONOSUPPORT)))
        #expect(machine.answer("socket", 16, 3, number) == (number == 0 ? .allow : error(EPROTONOSUPPORT)))
    }

    @Test("options are set at the levels of IP, sockets, TCP and UDP, but for two", arguments: UInt64(0)...300)
    func options(level: UInt64) {
        let isKnown = [0, 1, 6, 17, 41].contains(level)
        #expect(machine.answer("setsockopt", 3, level, 2) == (isKnown ? .allow : error(ENOPROTOOPT)))
        for upper in [0, high] {
            let isULP = level == 6
            let isEncapsulation = level == 17
            #expect((machine.answer("setsockopt", 3, upper | level, upper | 31) == error(EPERM)) == isULP)
            #expect((machine.answer("setsockopt", 3, upper | level, upper | 100) == error(EPERM)) == isEncapsulation)
        }
    }

    @Test(
        "nothing is sent or received out of band",
        arguments: zip(["sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg"], [3, 2, 3, 3, 2, 3])
    )
    func outOfBand(call: String, index: Int) {
        for (flags, isRefused) in [
            (0, false), (0x40, false), (0x4000, false), (1, true), (0x41, true), (high | 1, true),
        ]
            as [(UInt64, Bool)]
        {
            var arguments = [UInt64](repeating: 0, count: 6)
            arguments[index] = flags
            let answer = machine.answer(number: machine.number(call), arguments)
            #expect(answer == (isRefused ? error(EOPNOTSUPP) : .allow), "\(flags)")
        }
    }

    @Test(
        "nothing is typed into a terminal, whatever the upper half of the request",
        arguments: [0x5412, 0x541C, 0x5423]
    )
    func terminals(request: UInt64) {
        #expect(machine.answer("ioctl", 0, request) == error(EPERM))
        #expect(machine.answer("ioctl", 0, high | request) == error(EPERM))
        #expect(machine.answer("ioctl", 0, request + 1) == .allow)
    }

    @Test("the execution domain is asked, never set")
    func personality() {
        #expect(machine.answer("personality", 0xFFFF_FFFF) == .allow)
        for domain: UInt64 in [0, 0x0004_0000, 8, 0xFFFF_FFFE] {
            #expect(machine.answer("personality", domain) == error(EPERM))
            #expect(machine.answer("personality", high | domain) != .allow)
        }
    }
}
