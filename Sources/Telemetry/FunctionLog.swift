// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Glibc
import Linux
import Synchronization
import Units

/// What functions print, on disk: for each function one file that is written and the one before it, so that a function
/// that floods can fill neither the disk nor the daemon.
///
/// Lines are gathered and written together, on another thread: a call prints three at least, each would be a write of its
/// own, and whoever prints must not wait for a disk. Who follows or reads sees them at once. A daemon that is killed loses
/// those of the last moment before. What a disk that stands still does not take is dropped, and the log says how much.
package final class FunctionLog: Sendable {
    /// What waits to be written.
    fileprivate struct Gathered {
        /// Whole lines.
        var bytes: [UInt8] = []
        /// How many lines found no room in it.
        var lost = 0

        /// - Returns: how many bytes came, and whether there are enough to be written.
        mutating func add(_ line: LogLine, hasRoom: Bool) -> (Int, Bool) {
            let before = bytes.count
            guard hasRoom, before < FunctionLog.most else {
                lost += 1
                return (0, true)
            }
            line.appendJSON(to: &bytes)
            return (bytes.count - before, bytes.count > FunctionLog.enough)
        }
    }

    fileprivate struct State {
        var gathered: [String: Gathered] = [:]
        /// Of all functions, in bytes.
        var total = 0
        /// Whether somebody writes, or will in a moment.
        var isWriting = false
        var followers: [UInt64: (function: String, body: @Sendable (LogLine) -> Bool)] = [:]
        var next: UInt64 = 0
    }

    /// A file that is written. Confined to the lock of the disk.
    private struct File {
        var fd: CInt
        var size: Int
    }

    /// What is gathered of one function before it is written without being asked.
    fileprivate static let enough = 256 << 10
    /// What waits at most, of one function and of all.
    fileprivate static let (most, mostOfAll) = (1 << 20, 16 << 20)

    private let directory: String
    /// Of one of the two files.
    private let limit: Int
    private let run: @Sendable (@escaping @Sendable () -> Void) -> Void
    private let state = Mutex(State())
    /// Held while the disk is waited for; taken before `state`.
    private let files = Mutex<[String: File]>([:])
    private let isKept = Mutex<@Sendable (String) -> Bool>({ _ in true })

    /// - Parameters:
    ///   - retain: how much of one function's output is kept.
    ///   - run: runs what blocks.
    package init(
        directory: String,
        retain: Bytes,
        run: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void = { $0() }
    ) throws(SyscallError) {
        try Directory.makeAll(directory)
        self.directory = directory
        self.run = run
        limit = max(4096, Int(retain.count / 2))
    }

    /// Says which functions there are: what a sandbox prints while it ends whose function was removed makes no new file.
    package func keepOnly(_ isKept: @escaping @Sendable (String) -> Bool) { self.isKept.withLock { $0 = isKept } }

    /// Takes a line; never waits for the disk.
    package func append(_ line: LogLine, function: String) {
        let isEnough = state.withLock { state in
            // Inside, so that all who follow get lines in one order.
            for (token, follower) in state.followers where follower.function == function {
                if !follower.body(line) { state.followers[token] = nil }
            }
            return state.add(line, function)
        }
        if isEnough { writeSoon() }
    }

    /// Has what was gathered written, if anything was and nobody does so yet.
    package func writeSoon() {
        let isNeeded = state.withLock { state in
            guard !state.isWriting, !state.gathered.isEmpty else { return false }
            state.isWriting = true
            return true
        }
        guard isNeeded else { return }
        run { [self] in
            flush()
            state.withLock { $0.isWriting = false }
        }
    }

    /// Writes what was gathered of all functions. Blocking.
    package func flush() {
        files.withLock { files in
            let gathered = state.withLock { $0.takeAll() }
            for (function, lines) in gathered { write(lines, of: function, &files) }
        }
    }

    /// Whether something was printed that is not on disk yet.
    package var hasPending: Bool { state.withLock { !$0.gathered.isEmpty } }

    // MARK: The disk

    private func write(_ gathered: Gathered, of function: String, _ files: inout [String: File]) {
        var bytes = gathered.bytes
        if gathered.lost > 0 {
            let time = WallClock.iso8601(WallClock.nowMs())
            let words = "\(gathered.lost) lines were not kept: the disk that logs are on did not take them in time"
            LogLine(time: time, requestId: nil, sandbox: nil, message: words).appendJSON(to: &bytes)
        }
        var rest = bytes[...]
        var isTurned = false
        while !rest.isEmpty {
            guard var file = files[function] ?? open(function) else { return }
            let count = Self.wholeLines(of: rest, in: limit - file.size, isFirst: file.size == 0)
            if count > 0 {
                unsafe rest.prefix(count).withUnsafeBytes { _ = unsafe Glibc.write(file.fd, $0.baseAddress, count) }
                file.size += count
                rest = rest.dropFirst(count)
                isTurned = false
            }
            files[function] = file
            guard !rest.isEmpty else { return }
            // Where the full file cannot be put aside, what does not fit is not kept.
            guard !isTurned else { return }
            files[function] = nil
            close(file.fd)
            unsafe rename(path(function), path(function) + ".1")
            isTurned = true
        }
    }

    /// The length of the lines that fit into so much room; of a file that is empty, one at least.
    private static func wholeLines(of bytes: ArraySlice<UInt8>, in room: Int, isFirst: Bool) -> Int {
        guard bytes.count > room else { return bytes.count }
        let newline = UInt8(ascii: "\n")
        if let last = bytes.prefix(max(0, room)).lastIndex(of: newline) { return last + 1 - bytes.startIndex }
        guard isFirst else { return 0 }
        return bytes.firstIndex(of: newline).map { $0 + 1 - bytes.startIndex } ?? bytes.count
    }

    /// Opens a function's file; `nil` where it is not there and is not to be, or cannot.
    private func open(_ function: String) -> File? {
        guard isKept.withLock({ $0 })(function) else { return nil }
        let fd = unsafe Glibc.open(path(function), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o640)
        return fd < 0 ? nil : File(fd: fd, size: Int(lseek(fd, 0, SEEK_END)))
    }

    private func path(_ function: String) -> String { "\(directory)/\(function).log" }

    /// Which lines are meant.
    package struct Choice: Sendable {
        /// ISO 8601; only lines from then on.
        package var since: String?
        /// Only lines of requests whose id begins so.
        package var request: String?
        /// Only so many of the last.
        package var tail: Int?

        package init(since: String? = nil, request: String? = nil, tail: Int? = nil) {
            (self.since, self.request, self.tail) = (since, request, tail)
        }

        fileprivate func takes(_ line: LogLine) -> Bool {
            (since.map { line.time >= $0 } ?? true) && line.isOf(request)
        }
    }

    /// The lines that are kept, oldest first. Blocking.
    package func read(_ function: String, _ choice: Choice = Choice()) -> [LogLine] {
        let files = snapshot(function) { _ in }
        return Self.lines(files, choice)
    }

    /// The same, and calls `body` for each line from then on, in order, none left out and none twice, until that returns
    /// `false` or `unfollow` is called. `body` is called while lines wait to be kept: it must not block, nor come back
    /// to here.
    ///
    /// - Returns: with the lines, what to call `unfollow` with.
    package func readAndFollow(
        _ function: String,
        _ choice: Choice = Choice(),
        _ body: @escaping @Sendable (LogLine) -> Bool
    ) -> (lines: [LogLine], token: UInt64) {
        var token: UInt64 = 0
        let files = snapshot(function) { token = $0.follow(function, body) }
        return (Self.lines(files, choice), token)
    }

    /// Opens what is kept of a function, with all that was gathered of it.
    ///
    /// - Parameter also: done at the very moment.
    private func snapshot(_ function: String, also: (inout State) -> Void) -> [LogFile] {
        files.withLock { files in
            let lines = state.withLock { state in
                also(&state)
                return state.take(function)
            }
            if let lines { write(lines, of: function, &files) }
            return [path(function) + ".1", path(function)].compactMap { LogFile($0) }
        }
    }

    /// From the end, so that the last ten lines of many megabytes are ten lines' work.
    private static func lines(_ files: [LogFile], _ choice: Choice) -> [LogLine] {
        var found: [LogLine] = []
        let most = choice.tail ?? .max
        for file in files.reversed() {
            while found.count < most, let row = file.previous() {
                guard let line = try? JSONDecoder().decode(LogLine.self, from: Data(row)) else { continue }
                if choice.takes(line) { found.append(line) }
            }
        }
        return found.reversed()
    }

    /// Forgets a function that was removed. Blocking.
    package func remove(_ function: String) {
        files.withLock { files in
            state.withLock { _ = $0.take(function) }
            if let file = files.removeValue(forKey: function) { close(file.fd) }
            unsafe unlink(path(function))
            unsafe unlink(path(function) + ".1")
        }
    }

    // MARK: Following

    package func unfollow(_ token: UInt64) { state.withLock { _ = $0.followers.removeValue(forKey: token) } }
}

extension FunctionLog.State {
    fileprivate mutating func follow(_ function: String, _ body: @escaping @Sendable (LogLine) -> Bool) -> UInt64 {
        next += 1
        followers[next] = (function, body)
        return next
    }

    /// - Returns: whether there is enough of this function's to be written.
    fileprivate mutating func add(_ line: LogLine, _ function: String) -> Bool {
        // One look for the function: every call prints three lines at least.
        let (count, isEnough) = gathered[function, default: .init()].add(line, hasRoom: total < FunctionLog.mostOfAll)
        total += count
        return isEnough
    }

    fileprivate mutating func take(_ function: String) -> FunctionLog.Gathered? {
        let taken = gathered.removeValue(forKey: function)
        total -= taken?.bytes.count ?? 0
        return taken
    }

    fileprivate mutating func takeAll() -> [String: FunctionLog.Gathered] {
        defer { (gathered, total) = ([:], 0) }
        return gathered
    }
}

/// A file of lines, read from its end as it was when it was opened.
private final class LogFile {
    private static let piece = 64 << 10

    private let descriptor: Descriptor
    /// How much of the file is before what has been read.
    private var offset: Int
    /// Read, and not given out yet.
    private var bytes: [UInt8] = []

    /// `nil` when there is none.
    init?(_ path: String) {
        guard let opened = try? Descriptor.open(path, O_RDONLY) else { return nil }
        descriptor = opened
        offset = Int(max(0, lseek(descriptor.raw, 0, SEEK_END)))
    }

    /// The line before the one that was given out last, without its end.
    func previous() -> [UInt8]? {
        let newline = UInt8(ascii: "\n")
        if bytes.last == newline { bytes.removeLast() }
        while true {
            if let end = bytes.lastIndex(of: newline) {
                let line = Array(bytes[(end + 1)...])
                bytes.removeSubrange((end + 1)...)
                if !line.isEmpty { return line }
                bytes.removeLast()
            } else if offset > 0 {
                guard readMore() else { return nil }
            } else {
                guard !bytes.isEmpty else { return nil }
                defer { bytes = [] }
                return bytes
            }
        }
    }

    private func readMore() -> Bool {
        let size = min(Self.piece, offset)
        var more = [UInt8](repeating: 0, count: size)
        guard unsafe pread(descriptor.raw, &more, size, off_t(offset - size)) == size else { return false }
        offset -= size
        bytes = more + bytes
        return true
    }
}
