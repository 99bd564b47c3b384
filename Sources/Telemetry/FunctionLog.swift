// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Glibc
import Linux
import Synchronization
import Units

/// One line of a function's log.
package struct LogLine: Codable, Sendable, Equatable {
    /// ISO 8601 with milliseconds.
    package var time: String
    package var requestId: String?
    package var sandbox: String?
    package var message: String

    package init(time: String, requestId: String?, sandbox: String?, message: String) {
        self.time = time
        self.requestId = requestId
        self.sandbox = sandbox
        self.message = message
    }
}

/// What functions print, on disk: for each function one file that is written and the one before it, so that a function
/// that floods can fill neither the disk nor the daemon.
package final class FunctionLog: Sendable {
    private struct Writer {
        var fd: CInt
        var size: Int
    }

    private struct State {
        var writers: [String: Writer] = [:]
        var followers: [UInt64: (function: String, body: @Sendable (LogLine) -> Void)] = [:]
        var next: UInt64 = 0
    }

    private let directory: String
    /// Of one of the two files.
    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter retain: how much of one function's output is kept.
    package init(directory: String, retain: Bytes) throws(SyscallError) {
        try Directory.makeAll(directory)
        self.directory = directory
        limit = max(4096, Int(retain.count / 2))
    }

    package func append(_ line: LogLine, function: String) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes]
        guard var data = try? encoder.encode(line) else { return }
        data.append(UInt8(ascii: "\n"))
        let followers = state.withLock { state in
            write([UInt8](data), function, &state)
            return state.followers.values.filter { $0.function == function }.map(\.body)
        }
        for follower in followers { follower(line) }
    }

    private func write(_ bytes: [UInt8], _ function: String, _ state: inout State) {
        if let writer = state.writers[function], writer.size + bytes.count > limit {
            close(writer.fd)
            state.writers[function] = nil
            unsafe rename(path(function), path(function) + ".1")
        }
        if state.writers[function] == nil {
            let fd = unsafe open(path(function), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o640)
            guard fd >= 0 else { return }
            state.writers[function] = Writer(fd: fd, size: Int(lseek(fd, 0, SEEK_END)))
        }
        guard let writer = state.writers[function] else { return }
        _ = unsafe Glibc.write(writer.fd, bytes, bytes.count)
        state.writers[function]?.size += bytes.count
    }

    private func path(_ function: String) -> String { "\(directory)/\(function).log" }

    /// The lines that are kept, oldest first.
    ///
    /// - Parameters:
    ///   - since: ISO 8601; only lines from then on.
    ///   - tail: only so many of the last.
    package func read(_ function: String, since: String? = nil, tail: Int? = nil) -> [LogLine] {
        var lines: [LogLine] = []
        for file in [path(function) + ".1", path(function)] {
            guard let data = try? Data(contentsOf: URL(filePath: file)) else { continue }
            for row in data.split(separator: UInt8(ascii: "\n")) {
                guard let line = try? JSONDecoder().decode(LogLine.self, from: Data(row)) else { continue }
                if since.map({ line.time >= $0 }) ?? true { lines.append(line) }
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
