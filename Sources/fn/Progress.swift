// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Synchronization

/// A line on the terminal's error side while something takes longer than a second: what it is, how far it is where that
/// is known, and for how long already. It is gone when that is over, and never there without a terminal.
final class Progress: Sendable {
    private struct State {
        var share: Double?
        var isShown = false
        var isOver = false
    }

    private let what: String
    private let began = MonotonicClock.now()
    private let state = Mutex(State())

    private init(_ what: String) { self.what = what }

    /// Does something with a line about it, when it takes long.
    static func watch<Value, Problem: Error>(
        _ what: String,
        _ body: (Progress) throws(Problem) -> Value
    ) throws(Problem) -> Value {
        let progress = Progress(what)
        // Without a thread there is no line, which is no reason not to do it.
        if isatty(2) == 1, Console.environment("TERM") != "dumb" {
            try? Thread.start(name: "progress") { progress.run() }
        }
        defer { progress.end() }
        return try body(progress)
    }

    /// - Parameter share: from 0 to 1.
    func reached(_ share: Double) { state.withLock { $0.share = min(1, max(0, share)) } }

    private func run() {
        KernelSleep.milliseconds(1000)
        while state.withLock({ show(&$0) }) { KernelSleep.milliseconds(200) }
    }

    /// Under the lock, so that nothing is written once it is over.
    private func show(_ state: inout State) -> Bool {
        guard !state.isOver else { return false }
        let seconds = (MonotonicClock.now() - began) / 1_000_000_000
        let bar = state.share.map { share in
            let done = Int(share * 30)
            return
                " [\(String(repeating: "#", count: done))\(String(repeating: ".", count: 30 - done))] \(Int(share * 100))%"
        }
        Console.write(Array("\r\u{1B}[K\(what)\(bar ?? ""), \(seconds) s".utf8), to: 2)
        state.isShown = true
        return true
    }

    private func end() {
        state.withLock { state in
            state.isOver = true
            if state.isShown { Console.write(Array("\r\u{1B}[K".utf8), to: 2) }
        }
    }
}
