// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Glibc
import Linux
import Synchronization
import Units

/// What functions print, on disk: for each function one file that is written and the one before it, so that a function
/// that floods can fill neither the disk nor the daemon.
///
/// Lines are gathered and written together, by `flush` or when there are many: a call prints three at least, and each
/// would be a write of its own. Who follows or reads sees them at once. A daemon that is killed loses those of the last
/// moment before.
package final class FunctionLog: Sendable {
    /// Confined to the lock.
    private final class Writer {
        let fd: CInt
        /// Of the file, with what is still to be written.
        var size: Int
        var pending: [UInt8] = []

        init(fd: CInt, size: Int) { (self.fd, self.size) = (fd, size) }
    }

    /// What is gathered of one function before it is written without being asked.
    private static let gathered = 32 << 10

    private struct State {
        var writers: [String: Writer] = [:]
        var followers: [UInt64: (function: String, body: @Sendable (LogLine) -> Void)] = [:]
        var next: UInt64 = 0
    }

    private let directory: String
    /// Of one of the two files.
    private let limit: Int
    private let state = Mutex(State())
    private let isKept = Mutex<@Sendable (String) -> Bool>({ _ in true })

    /// - Parameter retain: how much of one function's output is kept.
    package init(directory: String, retain: Bytes) throws(SyscallError) {
        try Directory.makeAll(directory)
        self.directory = directory
        limit = max(4096, Int(retain.count / 2))
    }

    /// Says which functions there are: what a sandbox prints while it ends whose function was removed makes no new file.
    package func keepOnly(_ isKept: @escaping @Sendable (String) -> Bool) { self.isKept.withLock { $0 = isKept } }

    package func append(_ line: LogLine, function: String) {
        let followers = state.withLock { state in
            add(line, function, &state)
            return state.followers.isEmpty
                ? [] : state.followers.values.filter { $0.function == function }.map(\.body)
        }
        for follower in followers { follower(line) }
    }

    private func add(_ line: LogLine, _ function: String, _ state: inout State) {
        guard let writer = state.writers[function] ?? makeWriter(function, &state) else { return }
        if append(line, to: writer) { return }
        turn(function, &state)
        // Where the full file cannot be put aside, what does not fit is not kept.
        guard let writer = state.writers[function] ?? makeWriter(function, &state) else { return }
        _ = append(line, to: writer)
    }

    /// `false` when the file has no room for it any more.
    private func append(_ line: LogLine, to writer: Writer) -> Bool {
        let before = writer.pending.count
        line.appendJSON(to: &writer.pending)
        let count = writer.pending.count - before
        guard writer.size == 0 || writer.size + count <= limit else {
            writer.pending.removeLast(count)
            return false
        }
        writer.size += count
        if writer.pending.count > Self.gathered { write(writer) }
        return true
    }

    /// Opens a function's file; `nil` where it is not there and is not to be, or cannot.
    private func makeWriter(_ function: String, _ state: inout State) -> Writer? {
        guard isKept.withLock({ $0 })(function) else { return nil }
        let fd = unsafe open(path(function), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o640)
        guard fd >= 0 else { return nil }
        let writer = Writer(fd: fd, size: Int(lseek(fd, 0, SEEK_END)))
        state.writers[function] = writer
        return writer
    }

    /// Writes what was gathered of a function.
    private func write(_ writer: Writer) {
        guard !writer.pending.isEmpty else { return }
        _ = unsafe Glibc.write(writer.fd, writer.pending, writer.pending.count)
        writer.pending = []
    }

    /// The file is full: it becomes the one before, and a new one is begun.
    private func turn(_ function: String, _ state: inout State) {
        if let writer = state.writers.removeValue(forKey: function) {
            write(writer)
            close(writer.fd)
        }
        unsafe rename(path(function), path(function) + ".1")
    }

    /// Whether something was printed that is not on disk yet.
    package var hasPending: Bool { state.withLock { $0.writers.values.contains { !$0.pending.isEmpty } } }

    /// Writes what was gathered of all functions. Blocking.
    package func flush() {
        state.withLock { state in
            for writer in state.writers.values { write(writer) }
        }
    }

    private func path(_ function: String) -> String { "\(directory)/\(function).log" }

    /// The lines that are kept, oldest first.
    ///
    /// - Parameters:
    ///   - since: ISO 8601; only lines from then on.
    ///   - request: only lines of requests whose id begins so.
    ///   - tail: only so many of the last.
    package func read(
        _ function: String,
        since: String? = nil,
        request: String? = nil,
        tail: Int? = nil
    ) -> [LogLine] {
        state.withLock { state in
            if let writer = state.writers[function] { write(writer) }
        }
        var lines: [LogLine] = []
        for file in [path(function) + ".1", path(function)] {
            guard let data = try? Data(contentsOf: URL(filePath: file)) else { continue }
            for row in data.split(separator: UInt8(ascii: "\n")) {
                guard let line = try? JSONDecoder().decode(LogLine.self, from: Data(row)) else { continue }
                let isMeant = (since.map { line.time >= $0 } ?? true) && line.isOf(request)
                if isMeant { lines.append(line) }
            }
        }
        return tail.map { Array(lines.suffix($0)) } ?? lines
    }

    /// Calls `body` for each new line, until `unfollow`.
    package func follow(_ function: String, _ body: @escaping @Sendable (LogLine) -> Void) -> UInt64 {
        state.withLock { state in
            state.next += 1
            state.followers[state.next] = (function, body)
            return state.next
        }
    }

    package func unfollow(_ token: UInt64) { state.withLock { _ = $0.followers.removeValue(forKey: token) } }

    /// Forgets a function that was removed.
    package func remove(_ function: String) {
        state.withLock { state in
            if let writer = state.writers.removeValue(forKey: function) { close(writer.fd) }
            unsafe unlink(path(function))
            unsafe unlink(path(function) + ".1")
        }
    }
}
