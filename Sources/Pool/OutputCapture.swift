// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Synchronization

/// One line that a function printed, or one that the platform wrote about it.
package struct OutputLine: Sendable {
    package var requestID: String?
    package var bytes: [UInt8]
    /// Whether the platform wrote it.
    package var isPlatform = false
}

/// Reads what a sandbox prints: lines go to a sink, the last 4 KiB of each invocation are kept for its caller.
///
/// Read whenever the pipe has something, and once more when an invocation is answered, since its last words may still
/// be in the pipe then. A function that floods waits for its own pipe: no more than one read is held here.
///
/// What the platform writes may be put off until the request it is about has gone on its way (`settle`): in the log it
/// stands where it was put off, since whatever else is written or asked writes it first.
package final class OutputCapture: Sendable {
    /// As much as Lambda returns in `X-Amz-Log-Result`.
    private static let tailLimit = 4096
    /// Longer lines are cut into pieces of this size.
    private static let lineLimit = 64 << 10

    private struct State {
        var pipe: CInt
        /// The requests that run.
        var running: Set<String> = []
        /// Whose lines these are: what is printed while several run is nobody's.
        var requestID: String?
        var partial: [UInt8] = []
        var isNote = false
        var tail: [UInt8] = []
        /// What has been put off, in its order.
        var later: [Later] = []
    }

    private enum Later {
        case notes(@Sendable () -> [String], about: String)
        case end(String)
    }

    private let state: Mutex<State>
    private let sink: @Sendable (OutputLine) -> Void

    /// - Parameter pipe: the non-blocking read end; owned from here on.
    package init(pipe: CInt, sink: @escaping @Sendable (OutputLine) -> Void) {
        state = Mutex(State(pipe: pipe))
        self.sink = sink
    }

    deinit { close() }

    /// How much is read in one go, in pieces of 64 KiB.
    package enum Drain: Int, Sendable {
        /// The rest of it is told again at once, and the thread that reads is everybody's.
        case piece = 1
        /// A pipe as it is made, on an event loop: a function that prints on meanwhile must not hold that up.
        case pipe = 2
        /// As much as a function can make its pipe hold.
        case all = 16
    }

    /// Reads what is there; `false` at the end of the pipe.
    @discardableResult
    package func drain(_ amount: Drain = .all) -> Bool {
        state.withLock { state in
            guard state.pipe >= 0 else { return false }
            for _ in 0..<amount.rawValue {
                let (bytes, isOpen) = Self.read(state.pipe)
                guard !bytes.isEmpty else { return isOpen }
                settle(&state)
                take(bytes[...], &state)
            }
            return true
        }
    }

    /// What is in the pipe, at most 64 KiB; nothing, most of the time, and then nothing is allocated.
    private static func read(_ pipe: CInt) -> (bytes: [UInt8], isOpen: Bool) {
        // Only a kilobyte is taken from the stack: what asks for more gets it from the heap.
        let (first, isOpen) = read(pipe, atMost: 1024)
        guard first.count == 1024 else { return (first, isOpen) }
        let (rest, isStillOpen) = read(pipe, atMost: (64 << 10) - 1024)
        return (first + rest, isStillOpen)
    }

    private static func read(_ pipe: CInt, atMost size: Int) -> (bytes: [UInt8], isOpen: Bool) {
        unsafe withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { buffer in
            let count = unsafe Glibc.read(pipe, buffer.baseAddress, buffer.count)
            guard count > 0 else { return ([], count < 0 && (errno == EAGAIN || errno == EINTR)) }
            return unsafe (Array(buffer[..<count]), true)
        }
    }

    /// Lends the pipe's descriptor, to be watched.
    func withPipe<Result: Sendable>(_ body: (CInt) throws(SyscallError) -> Result) throws(SyscallError) -> Result {
        try body(state.withLock { $0.pipe })
    }

    /// From now on lines belong to this request, and the tail is its own; unless others run beside it.
    package func begin(_ requestID: String) {
        drain(.pipe)
        state.withLock { state in
            settle(&state)
            flush(&state)
            if state.running.isEmpty { state.tail = [] }
            state.running.insert(requestID)
            attribute(&state)
        }
    }

    private func attribute(_ state: inout State) {
        state.requestID = state.running.count == 1 ? state.running.first : nil
    }

    /// Adds a line of the platform's own about a request, as if it had been printed.
    package func note(_ text: String, for requestID: String) {
        state.withLock { state in
            settle(&state)
            note(text, requestID, &state)
        }
    }

    private func note(_ text: String, _ requestID: String, _ state: inout State) {
        flush(&state)
        state.requestID = requestID
        state.isNote = true
        let end = UInt8(ascii: "\n")
        if text.utf8.contains(end) {
            for line in text.utf8.split(separator: end, omittingEmptySubsequences: false) { emit(Array(line), &state) }
        } else {
            emit(Array(text.utf8), &state)
        }
        state.isNote = false
        attribute(&state)
    }

    // MARK: What is put off

    /// As `note` for each text, at the next `settle` or before whatever comes first; they are made then.
    package func noteLater(for requestID: String, _ texts: @escaping @Sendable () -> [String]) {
        state.withLock { $0.later.append(.notes(texts, about: requestID)) }
    }

    /// As `end`, behind what was put off before.
    package func endLater(_ requestID: String) { state.withLock { $0.later.append(.end(requestID)) } }

    /// Writes what was put off.
    package func settle() { state.withLock { settle(&$0) } }

    private func settle(_ state: inout State) {
        guard !state.later.isEmpty else { return }
        let later = state.later
        state.later.removeAll(keepingCapacity: true)
        for one in later {
            switch one {
            case .notes(let texts, let requestID): for text in texts() { note(text, requestID, &state) }
            case .end(let requestID): end(requestID, &state)
            }
        }
    }

    /// Ends a line that was begun and not ended: what is told next stands behind it.
    package func endLine() {
        state.withLock { state in
            guard !state.partial.isEmpty else { return }
            settle(&state)
            flush(&state)
        }
    }

    /// What was printed since `begin`, at most the last 4 KiB.
    package var tail: [UInt8] {
        state.withLock { state in
            settle(&state)
            let whole = state.partial.isEmpty ? state.tail : state.tail + state.partial.suffix(Self.tailLimit)
            return whole.count <= Self.tailLimit ? whole : Array(whole[(whole.count - Self.tailLimit)...])
        }
    }

    /// The request that alone runs now.
    package var requestID: String? {
        state.withLock { state in
            settle(&state)
            return state.requestID
        }
    }

    /// The request is over: what is printed from now on is not its own.
    package func end(_ requestID: String) {
        state.withLock { state in
            settle(&state)
            end(requestID, &state)
        }
    }

    private func end(_ requestID: String, _ state: inout State) {
        flush(&state)
        state.running.remove(requestID)
        attribute(&state)
    }

    package func close() {
        state.withLock { state in
            settle(&state)
            guard state.pipe >= 0 else { return }
            flush(&state)
            Glibc.close(state.pipe)
            state.pipe = -1
        }
    }

    private func take(_ bytes: ArraySlice<UInt8>, _ state: inout State) {
        var rest = bytes
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            if state.partial.isEmpty, end - rest.startIndex <= Self.lineLimit {
                emit(Array(rest[..<end]), &state)  // as it is, most of the time
            } else {
                state.partial += rest[..<end]
                repeat { emit(&state) } while !state.partial.isEmpty
            }
            rest = rest[(end + 1)...]
        }
        state.partial += rest
        while state.partial.count > Self.lineLimit { emit(&state) }
    }

    private func flush(_ state: inout State) {
        if !state.partial.isEmpty { emit(&state) }
    }

    private func emit(_ state: inout State) {
        let line = Array(state.partial.prefix(Self.lineLimit))
        state.partial.removeFirst(line.count)
        emit(line, &state)
    }

    private func emit(_ line: [UInt8], _ state: inout State) {
        state.tail += line[max(0, line.count - Self.tailLimit)...]
        state.tail.append(UInt8(ascii: "\n"))
        // Not at each line: what is cut off moves the rest.
        if state.tail.count > 4 * Self.tailLimit { state.tail.removeFirst(state.tail.count - Self.tailLimit) }
        sink(OutputLine(requestID: state.requestID, bytes: line, isPlatform: state.isNote))
    }
}
