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
///
/// It is put together from its end: jumps only lead forward, so where one leads to is there when it is added, and each
/// verdict is there once however many ways lead to it. A start waits for the kernel to translate the whole program.
struct ClassicBPF {
    /// Jumps are counted in instructions from the one behind it.
    struct Instruction: Equatable {
        var code: UInt16
        var whenTrue: UInt8 = 0
        var whenFalse: UInt8 = 0
        var value: UInt32
    }

    /// An instruction, counted from the program's end.
    struct Place: Equatable {
        fileprivate var index: Int
    }

    private var reversed: [Instruction] = []
    private var places: [Verdict: Place] = [:]

    var count: Int { reversed.count }

    /// In the kernel's form: 16 bits of code, two jumps of 8, 32 of value. It begins with what was added last.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for each in reversed.reversed() {
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

    enum Condition {
        case equal(UInt32)
        case atLeast(UInt32)
        /// One of these bits is set.
        case bits(UInt32)

        fileprivate var code: (operation: UInt16, value: UInt32) {
            switch self {
            case .equal(let value): (0x15, value)  // BPF_JMP | BPF_JEQ | BPF_K
            case .atLeast(let value): (0x35, value)  // BPF_JGE
            case .bits(let mask): (0x45, mask)  // BPF_JSET
            }
        }
    }

    /// Loads a field, and goes on.
    @discardableResult mutating func load(_ field: Field, then next: Place) -> Place {
        if next != latest { add(jump(to: next)) }
        return add(Instruction(code: 0x20, value: field.offset))
    }

    /// Goes one way or the other, as what was loaded says.
    mutating func test(_ condition: Condition, then: Place, otherwise: Place) -> Place {
        // The distances of a test have 8 bits; where one is too small for them it leads to a jump nearby.
        let (then, otherwise) = (near(then), near(otherwise))
        let (operation, value) = condition.code
        return add(
            Instruction(
                code: operation,
                whenTrue: UInt8(distance(to: then)),
                whenFalse: UInt8(distance(to: otherwise)),
                value: value
            )
        )
    }

    /// Where a verdict is come to. What has been loaded before counts for nothing.
    mutating func place(of verdict: Verdict) -> Place {
        if let known = places[verdict] { return known }
        let made: Place
        switch verdict {
        case .value(let argument, let cases, let otherwise):
            var next = place(of: otherwise)
            for each in cases.reversed() {
                next = test(.equal(each.value), then: place(of: each.verdict), otherwise: next)
            }
            made = load(.argument(argument), then: next)
        case .bits(let argument, let mask, let then, let otherwise):
            let test = test(.bits(mask), then: place(of: then), otherwise: place(of: otherwise))
            made = load(.argument(argument), then: test)
        case .allow, .fail, .killProcess:
            made = add(Instruction(code: 0x06, value: verdict.answer ?? 0))
        }
        places[verdict] = made
        return made
    }

    private var latest: Place { Place(index: reversed.count - 1) }

    /// From the instruction that is added next.
    private func distance(to place: Place) -> Int { reversed.count - 1 - place.index }

    @discardableResult private mutating func add(_ instruction: Instruction) -> Place {
        reversed.append(instruction)
        return latest
    }

    private func jump(to place: Place) -> Instruction { Instruction(code: 0x05, value: UInt32(distance(to: place))) }

    private mutating func near(_ place: Place) -> Place {
        // One less than fits, as a jump for the other way may come between.
        distance(to: place) < Int(UInt8.max) ? place : add(jump(to: place))
    }

    // MARK: Search

    private typealias Run = (first: UInt32, verdict: Verdict)

    /// How to tell some runs, side by side, apart.
    private struct Plan {
        var tests = 0
        /// Of the longest way.
        var depth = 0
        /// First whether it is one of the upper runs, from this one on; `nil` is to ask for each that is not like the
        /// rest, which is one number, one after the other.
        var split: Int?
    }

    /// Adds a search over the number of the call, which has been loaded, in as few instructions as can be.
    ///
    /// Numbers side by side have mostly the same verdict: what is searched are the runs of them. A number that alone has
    /// another verdict than those around it is one test, not two.
    ///
    /// - Parameter verdicts: by number; what is not in it gets `otherwise`.
    mutating func search(_ verdicts: [UInt32: Verdict], otherwise: Verdict) -> Place {
        var runs: [Run] = []
        for number in 0...((verdicts.keys.max() ?? 0) + 1) {
            let verdict = verdicts[number] ?? otherwise
            if runs.last?.verdict != verdict { runs.append((number, verdict)) }
        }
        return search(runs[...])
    }

    /// More at once would take long to plan for.
    private static let planned = 128

    private mutating func search(_ runs: ArraySlice<Run>) -> Place {
        guard runs.count > Self.planned else {
            let runs = Array(runs)
            return search(runs, 0, runs.count, Self.plans(runs))
        }
        let middle = runs.startIndex + runs.count / 2
        let (high, low) = (search(runs[middle...]), search(runs[..<middle]))
        return test(.atLeast(runs[middle].first), then: high, otherwise: low)
    }

    private mutating func search(_ runs: [Run], _ start: Int, _ end: Int, _ plans: [[Plan]]) -> Place {
        if let middle = plans[start][end].split {
            let high = search(runs, middle, end, plans)
            let low = search(runs, start, middle, plans)
            return test(.atLeast(runs[middle].first), then: high, otherwise: low)
        }
        guard let (rest, others) = Self.pick(runs, start, end) else { preconditionFailure("no plan for these numbers") }
        var next = place(of: rest)
        for index in others.reversed() {
            next = test(.equal(runs[index].first), then: place(of: runs[index].verdict), otherwise: next)
        }
        return next
    }

    /// For each stretch of runs, from its first one to the one behind it, the plan of the fewest tests, and of those the
    /// one whose longest way is shortest.
    private static func plans(_ runs: [Run]) -> [[Plan]] {
        var best = [[Plan]](repeating: [Plan](repeating: Plan(), count: runs.count + 1), count: runs.count + 1)
        for length in 1...runs.count {
            for start in 0...(runs.count - length) {
                let end = start + length
                var plan = pick(runs, start, end).map { Plan(tests: $0.others.count, depth: $0.others.count) }
                for middle in (start + 1)..<max(end, start + 1) {
                    let (low, high) = (best[start][middle], best[middle][end])
                    let (tests, depth) = (1 + low.tests + high.tests, 1 + max(low.depth, high.depth))
                    if let plan, (plan.tests, plan.depth) <= (tests, depth) { continue }
                    plan = Plan(tests: tests, depth: depth, split: middle)
                }
                best[start][end] = plan ?? Plan()
            }
        }
        return best
    }

    /// Of a stretch of runs what most are like, and the runs of one number that are not, if those are few.
    private static func pick(_ runs: [Run], _ start: Int, _ end: Int) -> (rest: Verdict, others: [Int])? {
        // Where there are few others, one of the first two is like the rest.
        for rest in runs[start..<min(end, start + 2)].map(\.verdict) {
            if let others = others(than: rest, runs, start, end) { return (rest, others) }
        }
        return nil
    }

    /// The runs with another verdict; `nil` where they are too many, or one of them is more than a number.
    private static func others(than rest: Verdict, _ runs: [Run], _ start: Int, _ end: Int) -> [Int]? {
        var others: [Int] = []
        for index in start..<end where runs[index].verdict != rest {
            let isSingle = index + 1 < runs.count && runs[index + 1].first == runs[index].first + 1
            guard isSingle, others.count < 4 else { return nil }
            others.append(index)
        }
        return others
    }
}
