// SPDX-License-Identifier: Apache-2.0
import CSeccomp

/// A program of the kernel's classic BPF (include/uapi/linux/filter.h), as seccomp runs it over `struct seccomp_data`.
struct ClassicBPF {
    /// Where a jump goes is counted in instructions from the one behind it.
    struct Instruction: Equatable {
        var code: UInt16
        var whenTrue: UInt8 = 0
        var whenFalse: UInt8 = 0
        var value: UInt32
    }

    /// What becomes of a system call.
    enum Answer: Hashable {
        case allow
        case fail(Int32)
        /// The part of this number decides.
        case part(Int)

        static let killProcess: UInt32 = 0x8000_0000  // SECCOMP_RET_KILL_PROCESS

        /// The value that a program returns.
        var raw: UInt32 {
            switch self {
            case .allow: 0x7FFF_0000  // SECCOMP_RET_ALLOW
            case .fail(let error): ebb_seccomp_errno(UInt16(error))
            case .part: preconditionFailure("a part answers by itself")
            }
        }
    }

    private(set) var instructions: [Instruction]

    init(_ instructions: [Instruction] = []) { self.instructions = instructions }

    /// From the kernel's form.
    init(_ bytes: [UInt8]) {
        func number(_ at: Int, _ size: Int) -> UInt32 {
            bytes[at..<at + size].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        instructions = stride(from: 0, to: bytes.count, by: 8)
            .map { at in
                Instruction(
                    code: UInt16(number(at, 2)),
                    whenTrue: bytes[at + 2],
                    whenFalse: bytes[at + 3],
                    value: number(at + 4, 4)
                )
            }
    }

    static func load(_ offset: UInt32) -> Instruction { Instruction(code: 0x20, value: offset) }
    static func jump(_ count: Int) -> Instruction { Instruction(code: 0x05, value: UInt32(count)) }
    static func answer(_ value: UInt32) -> Instruction { Instruction(code: 0x06, value: value) }
    static func equal(_ value: UInt32, _ whenTrue: UInt8, _ whenFalse: UInt8) -> Instruction {
        Instruction(code: 0x15, whenTrue: whenTrue, whenFalse: whenFalse, value: value)
    }
    static func atLeast(_ value: UInt32, _ whenTrue: UInt8, _ whenFalse: UInt8) -> Instruction {
        Instruction(code: 0x35, whenTrue: whenTrue, whenFalse: whenFalse, value: value)
    }

    /// In the kernel's form: 16 bits of code, two jumps of 8, 32 of value.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for each in instructions {
            bytes += [UInt8(each.code & 0xFF), UInt8(each.code >> 8), each.whenTrue, each.whenFalse]
            for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(each.value >> shift & 0xFF)) }
        }
        return bytes
    }

    /// Adds a binary search over the system call's number, which has been loaded, and behind it the parts that it leads to.
    ///
    /// - Parameters:
    ///   - answers: by number; what is not in it gets `otherwise`.
    ///   - parts: programs that each end with an answer. What one allows goes on to the next.
    mutating func search(_ answers: [UInt32: Answer], otherwise: Answer, parts: [[Instruction]]) {
        // Runs of numbers with one answer, each by its first number.
        var runs: [Run] = []
        for number in 0...((answers.keys.max() ?? 0) + 1) {
            let answer = answers[number] ?? otherwise
            if runs.last?.answer != answer { runs.append((number, answer)) }
        }
        var search = Self.tree(runs[...])
        var begin = search.count
        for (number, part) in parts.enumerated() {
            for (index, each) in search.enumerated() where each == Self.leaf(number) {
                search[index] = Self.jump(begin - index - 1)
            }
            begin += part.count
        }
        instructions += search
        for (number, part) in parts.enumerated() {
            guard number + 1 < parts.count else {
                instructions += part
                continue
            }
            instructions += part.enumerated()
                .map { index, each in
                    each == Self.answer(Answer.allow.raw) ? Self.jump(part.count - index - 1) : each
                }
        }
    }

    private typealias Run = (first: UInt32, answer: Answer)

    private static func tree(_ runs: ArraySlice<Run>) -> [Instruction] {
        guard runs.count > 1 else {
            return runs.map { run in
                if case .part(let part) = run.answer { leaf(part) } else { answer(run.answer.raw) }
            }
        }
        let middle = runs.startIndex + runs.count / 2
        let (low, high) = (tree(runs[..<middle]), tree(runs[middle...]))
        let first = runs[middle].first
        guard let skipped = UInt8(exactly: low.count) else {
            return [atLeast(first, 0, 1), jump(low.count)] + low + high
        }
        return [atLeast(first, skipped, 0)] + low + high
    }

    /// Stands for a jump to a part until it is known where that begins; no code of the kernel's.
    private static func leaf(_ part: Int) -> Instruction { Instruction(code: .max, value: UInt32(part)) }
}
