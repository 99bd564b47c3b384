// SPDX-License-Identifier: Apache-2.0
import CSeccomp

@testable import Sandbox

/// Runs seccomp programs as the kernel does (kernel/seccomp.c, net/core/filter.c): so that a test can ask what
/// becomes of any call on any architecture, whatever this machine's kernel has.
struct FilterMachine {
    enum Answer: Equatable {
        case allow
        case error(UInt32)
        case kill
    }

    /// AUDIT_ARCH_ of the machine that the tests run on.
    #if arch(x86_64)
    static let native: UInt32 = 0xC000_003E
    #else
    static let native: UInt32 = 0xC000_00B7
    #endif

    let programs: [[UInt8]]

    /// What all programs together come to: the stricter action, of equal ones that of the last loaded.
    func answer(number: Int, _ arguments: [UInt64] = [], arch: UInt32 = native) -> Answer? {
        var strictest: UInt32 = 0x7FFF_0000
        for program in programs.reversed() {
            guard let result = Self.run(program, Self.data(number, arguments, arch)) else { return nil }
            // Actions are compared as signed numbers: to kill the process is the lowest.
            if Int32(bitPattern: result & 0xFFFF_0000) < Int32(bitPattern: strictest & 0xFFFF_0000) {
                strictest = result
            }
        }
        return switch strictest & 0xFFFF_0000 {
        case 0x7FFF_0000: .allow
        case 0x0005_0000: .error(strictest & 0xFFFF)
        case 0x8000_0000: .kill
        default: nil
        }
    }

    func answer(_ name: String, _ arguments: UInt64...) -> Answer? { answer(number: number(name), arguments) }

    /// Negative for a name that libseccomp does not know.
    func number(_ name: String) -> Int { Int(unsafe seccomp_syscall_resolve_name(name)) }

    /// `struct seccomp_data`, in 32-bit words.
    private static func data(_ number: Int, _ arguments: [UInt64], _ arch: UInt32) -> [UInt32] {
        var words: [UInt32] = [UInt32(truncatingIfNeeded: number), arch, 0, 0]
        for index in 0..<6 {
            let value = index < arguments.count ? arguments[index] : 0
            words += [UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32)]
        }
        return words
    }

    private static func run(_ program: [UInt8], _ data: [UInt32]) -> UInt32? {
        var (accumulator, at) = (UInt32(0), 0)
        while at + 8 <= program.count {
            let code = UInt16(program[at]) | UInt16(program[at + 1]) << 8
            let (whenTrue, whenFalse) = (Int(program[at + 2]), Int(program[at + 3]))
            let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(program[at + 4 + $1]) << (8 * UInt32($1)) }
            at += 8
            func jump(_ condition: Bool) { at += 8 * (condition ? whenTrue : whenFalse) }
            switch code {
            case 0x20: accumulator = data[Int(value) / 4]  // load a word
            case 0x54: accumulator &= value
            case 0x05: at += 8 * Int(value)
            case 0x15: jump(accumulator == value)
            case 0x25: jump(accumulator > value)
            case 0x35: jump(accumulator >= value)
            case 0x45: jump(accumulator & value != 0)
            case 0x06: return value
            default: return nil
            }
        }
        return nil
    }
}
