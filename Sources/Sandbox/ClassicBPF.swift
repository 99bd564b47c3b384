// SPDX-License-Identifier: Apache-2.0
import CSeccomp

/// What becomes of a system call.
indirect enum Verdict: Hashable, Sendable {
    case allow
    case fail(Int32)
    case killProcess
    /// As the argument's value says, of which the low 32 bits count.
    case value(argument: Int, _ cases: [Case], otherwise: Verdict)
    /// `then` if the argument has one of these bits.
    case bits(argument: Int, UInt32, then: Verdict, otherwise: Verdict)

    struct Case: Hashable, Sendable {
        var value: UInt32
        var verdict: Verdict
    }

    /// The value that a program returns, where nothing more has to be asked.
    fileprivate var answer: UInt32? {
        switch self {
        case .allow: 0x7FFF_0000  // SECCOMP_RET_ALLOW
        case .killProcess: 0x8000_0000  // SECCOMP_RET_KILL_PROCESS
        case .fail(let error): ebb_seccomp_errno(UInt16(error))
        case .value, .bits: nil
        }
    }
}

/// A program of the kernel's classic BPF (include/uapi/linux/filter.h), as seccomp runs it over `struct seccomp_data`.
struct ClassicBPF {
    /// Jumps are counted in instructions from the one behind it.
    struct Instruction: Equatable {
        var code: UInt16
        var whenTrue: UInt8 = 0
        var whenFalse: UInt8 = 0
        var value: UInt32
    }

    private(set) var instructions: [Instruction] = []

    /// In the kernel's form: 16 bits of code, two jumps of 8, 32 of value.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for each in instructions {
            bytes += [UInt8(each.code & 0xFF), UInt8(each.code >> 8), each.whenTrue, each.whenFalse]
            for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(each.value >> shift & 0xFF)) }
        }
        return bytes
    }

    // MARK: Instructions

    enum Field {
        case number
        case architecture
        /// The low half of an argument.
        case argument(Int)

        /// In `struct seccomp_data` of a little-endian machine.
        var offset: UInt32 {
            switch self {
            case .number: 0
            case .architecture: 4
            case .argument(let index): UInt32(16 + 8 * index)
            }
        }
    }

    mutating func load(_ field: Field) { instructions.append(Self.load(field)) }

    /// Ends with `verdict` unless what was loaded is this.
    mutating func require(equal value: UInt32, else verdict: Verdict) {
        let other = Self.code(verdict)
        instructions += [Self.test(0x15, value, skipsIfTrue: other.count)] + other
    }

    /// Ends with `verdict` unless what was loaded is below this.
    mutating func require(below value: UInt32, else verdict: Verdict) {
        let other = Self.code(verdict)
        instructions += [Self.test(0x35, value, skipsIfFalse: other.count)] + other
    }

    private static func load(_ field: Field) -> Instruction { Instruction(code: 0x20, value: field.offset) }
    private static func jump(_ count: Int) -> Instruction { Instruction(code: 0x05, value: UInt32(count)) }

    private static func test(
        _ code: UInt16,
        _ value: UInt32,
        skipsIfTrue: Int = 0,
        skipsIfFalse: Int = 0
    ) -> Instruction {
        Instruction(code: code, whenTrue: UInt8(skipsIfTrue), whenFalse: UInt8(skipsIfFalse), value: value)
    }

    /// Instructions that end with an answer on every way. What has been loaded before counts for nothing.
    private static func code(_ verdict: Verdict) -> [Instruction] {
        switch verdict {
        case .value(let argument, let cases, let otherwise):
            cases.reduce([load(.argument(argument))]) { code, each in
                let then = Self.code(each.verdict)
                return code + [test(0x15, each.value, skipsIfFalse: then.count)] + then
            } + code(otherwise)
        case .bits(let argument, let mask, let then, let otherwise):
            [load(.argument(argument)), test(0x45, mask, skipsIfFalse: code(then).count)] + code(then)
                + code(otherwise)
        case .allow, .fail, .killProcess:
            verdict.answer.map { [Instruction(code: 0x06, value: $0)] } ?? []
        }
    }

    // MARK: Search

    private typealias Run = (first: UInt32, verdict: Verdict)

    /// Adds a binary search over the number of the call, which has been loaded, and behind it what asks for arguments.
    ///
    /// Numbers side by side have mostly the same verdict: what is searched are the runs of them.
    ///
    /// - Parameter verdicts: by number; what is not in it gets `otherwise`.
    mutating func search(_ verdicts: [UInt32: Verdict], otherwise: Verdict) {
        var runs: [Run] = []
        for number in 0...((verdicts.keys.max() ?? 0) + 1) {
            let verdict = verdicts[number] ?? otherwise
            if runs.last?.verdict != verdict { runs.append((number, verdict)) }
        }
        var parts: [Verdict] = []
        for run in runs where run.verdict.answer == nil && !parts.contains(run.verdict) { parts.append(run.verdict) }
        var code = Self.tree(runs[...], parts)
        let size = code.count
        for (number, part) in parts.enumerated() {
            for index in 0..<size where code[index] == Self.leaf(number) {
                code[index] = Self.jump(code.count - index - 1)
            }
            code += Self.code(part)
        }
        instructions += code
    }

    private static func tree(_ runs: ArraySlice<Run>, _ parts: [Verdict]) -> [Instruction] {
        guard runs.count > 1 else {
            return runs.flatMap { run in parts.firstIndex(of: run.verdict).map { [leaf($0)] } ?? code(run.verdict) }
        }
        let middle = runs.startIndex + runs.count / 2
        let (low, high) = (tree(runs[..<middle], parts), tree(runs[middle...], parts))
        let first = runs[middle].first
        guard low.count <= UInt8.max else {
            return [test(0x35, first, skipsIfFalse: 1), jump(low.count)] + low + high
        }
        return [test(0x35, first, skipsIfTrue: low.count)] + low + high
    }

    /// Stands for a jump to a part until it is known where that begins; no code of the kernel's.
    private static func leaf(_ part: Int) -> Instruction { Instruction(code: .max, value: UInt32(part)) }
}
