// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Notices changes below a directory, in what its rules do not ignore (inotify(7)).
///
/// A watch holds one directory and none below it, so directories get theirs as they come. What is made in a new one
/// before it is watched is not lost: whoever is told of the directory reads all of it.
struct DirectoryWatch: ~Copyable {
    let descriptor: CInt
    private let root: String
    private var rules: IgnoreRules
    /// Directories by watch, as paths from the root: "" or "a/b/".
    private var directories: [CInt: String]

    private static var changes: UInt32 {
        UInt32(
            IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR
                | IN_DELETE_SELF
        )
    }

    private init(descriptor: CInt, root: String, rules: IgnoreRules) {
        self.descriptor = descriptor
        self.root = root
        self.rules = rules
        directories = [:]
    }

    static func open(_ root: String) throws -> DirectoryWatch {
        let rules = try IgnoreRules(directory: root)
        let fd = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
        guard fd >= 0 else { throw Failure(.failed, "fn: inotify: \(unsafe String(cString: strerror(errno)))") }
        var made = DirectoryWatch(descriptor: fd, root: root, rules: rules)
        try made.watch("")
        return made
    }

    deinit { close(descriptor) }

    /// Watches a directory and those below it.
    private mutating func watch(_ path: String) throws {
        let watch = unsafe inotify_add_watch(descriptor, "\(root)/\(path)", Self.changes)
        if watch < 0 {
            // It may have gone again; the limit on watches is what a person can change.
            guard errno == ENOSPC else { return }
            throw Failure(.failed, "fn: too many directories to watch: raise fs.inotify.max_user_watches (sysctl)")
        }
        directories[watch] = path
        for name in (try? Siblings.names("\(root)/\(path)")) ?? [] where isDirectory(path + name) {
            guard !rules.ignores(path + name, isDirectory: true) else { continue }
            try self.watch("\(path)\(name)/")
        }
    }

    private func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return unsafe lstat("\(root)/\(path)", &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }

    /// Takes what has happened; whether any of it matters.
    mutating func take() throws -> Bool {
        var matters = false
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe read(descriptor, &buffer, buffer.count)
            guard count > 0 else { return matters }
            for event in Self.events(buffer[..<count]) where try self.matters(event) { matters = true }
        }
    }

    private struct Event {
        var watch: CInt
        var mask: UInt32
        var name: String
        func has(_ bit: Int32) -> Bool { mask & UInt32(bitPattern: bit) != 0 }
    }

    /// struct inotify_event: watch, mask, cookie and length, each of 32 bits, then a name padded with zeroes.
    private static func events(_ bytes: ArraySlice<UInt8>) -> [Event] {
        var (events, rest) = ([Event](), bytes)
        func word(_ index: Int) -> UInt32 {
            rest.dropFirst(4 * index).prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        while rest.count >= 16 {
            let (watch, mask, length) = (CInt(bitPattern: word(0)), word(1), Int(word(3)))
            let name = rest.dropFirst(16).prefix(length).prefix { $0 != 0 }
            events.append(Event(watch: watch, mask: mask, name: String(decoding: name, as: UTF8.self)))
            rest = rest.dropFirst(16 + length)
        }
        return events
    }

    private mutating func matters(_ event: Event) throws -> Bool {
        if event.has(Int32(IN_Q_OVERFLOW)) { return true }
        if event.has(Int32(IN_IGNORED)) { directories[event.watch] = nil }
        guard let directory = directories[event.watch], !event.name.isEmpty else { return false }
        let (path, isDirectory) = (directory + event.name, event.has(Int32(IN_ISDIR)))
        if path == IgnoreRules.file {
            rules = try IgnoreRules(directory: root)
            try watch("")  // what was ignored may not be any more; a directory that is watched keeps its watch
            return true
        }
        guard !rules.ignores(path, isDirectory: isDirectory) else { return false }
        if isDirectory, event.has(IN_CREATE) || event.has(IN_MOVED_TO) { try watch("\(path)/") }
        return true
    }
}
