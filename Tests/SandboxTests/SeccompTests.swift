// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import Sandbox

@Suite("The system calls of a function")
struct SeccompTests {
    let machine: FilterMachine
    private let high: UInt64 = 1 << 32

    init() throws { machine = FilterMachine(program: try SeccompProfile().program) }

    private func error(_ number: Int32) -> FilterMachine.Answer { .error(UInt32(number)) }

    @Test("the program is whole, and as short as what is loaded at each start should be")
    func size() {
        #expect(machine.program.count % 8 == 0)
        #expect((1...600).contains(machine.program.count / 8), "the kernel takes 4096 (BPF_MAXINSNS)")
    }

    @Test("a search over many numbers jumps as far as it has to")
    func search() {
        var code = ClassicBPF([ClassicBPF.load(0)])
        let answers = Dictionary(uniqueKeysWithValues: (0..<2000).map { (UInt32($0), Self.kind($0)) })
        let parts: [[ClassicBPF.Instruction]] = [
            [ClassicBPF.load(16), ClassicBPF.equal(7, 0, 1), allow, ClassicBPF.answer(ClassicBPF.Answer.fail(3).raw)],
            [ClassicBPF.load(24), ClassicBPF.equal(7, 0, 1), allow, ClassicBPF.answer(ClassicBPF.Answer.fail(4).raw)],
        ]
        code.search(answers, otherwise: .fail(ENOSYS), parts: parts)
        let machine = FilterMachine(program: code.bytes)
        for number in 0..<2100 {
            for (first, second) in [(7, 7), (7, 0), (0, 7), (0, 0)] as [(UInt64, UInt64)] {
                let expected: FilterMachine.Answer =
                    switch number < 2000 ? Self.kind(number) : .fail(ENOSYS) {
                    case .allow: .allow
                    case .fail(let errno): error(errno)
                    // What the first allows goes on to the second.
                    case .part(let part): part == 0 && first != 7 ? error(3) : second == 7 ? .allow : error(4)
                    }
                #expect(machine.answer(number: number, [first, second]) == expected, "\(number)")
            }
        }
    }

    private let allow = ClassicBPF.answer(ClassicBPF.Answer.allow.raw)

    private static func kind(_ number: Int) -> ClassicBPF.Answer {
        [.allow, .fail(1), .part(0), .part(1)][number * number % 4 == 0 ? number % 3 : number % 4]
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

    @Test("rules in a list and in a tree answer the same")
    func optimization() throws {
        let list = FilterMachine(program: try SeccompProfile(optimization: 1).program)
        for number in -1...520 {
            for arguments in [
                [], [1], [2, 1, 6], [16, 3, 0], [38, 5, 0], [0x1002_0011], [3, 6, 31], [0, 0x5412], [1, 2, 1, 1],
            ]
                as [[UInt64]]
            {
                let expected = list.answer(number: number, arguments)
                #expect(expected != nil)
                #expect(machine.answer(number: number, arguments) == expected, "\(number) \(arguments)")
            }
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
