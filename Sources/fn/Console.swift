// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Standard output for results, standard error for everything else.
enum Console {
    static let isTerminal = isatty(1) == 1
    static let hasColour = isTerminal && environment("NO_COLOR") == nil && environment("TERM") != "dumb"

    static func environment(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The last byte of standard output.
    nonisolated(unsafe) private(set) static var lastWritten: UInt8?

    static func write(_ bytes: [UInt8], to fd: CInt = 1) {
        if fd == 1, let last = bytes.last { unsafe lastWritten = last }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(fd, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                // A result that nobody got is no success. A reader that has gone has had enough of it.
                guard fd == 1, errno != EPIPE else { return }
                error("fn: the result cannot be written: \(unsafe String(cString: strerror(errno)))")
                endProgram(Exit.failed.rawValue)
            }
            rest = rest.dropFirst(count)
        }
    }

    static func print(_ text: String) { write(Array((text + "\n").utf8)) }
    static func error(_ text: String) { write(Array((text + "\n").utf8), to: 2) }

    /// Whether a person can be asked: what else comes in is not an answer to a question.
    static let canAsk = isatty(0) == 1 && isatty(2) == 1

    /// A line that a person may answer with yes.
    static func confirm(_ question: String) -> Bool {
        write(Array("\(question) [y/N] ".utf8), to: 2)
        return ["y", "yes"].contains(readLine()?.lowercased())
    }

    /// In the place of what is closed comes what cannot be read or written: or the next file that is opened, such as the
    /// connection to the daemon, would be taken for standard output.
    static func fillGaps() {
        for (fd, flags) in [(0, O_WRONLY), (1, O_RDONLY), (2, O_RDONLY)] as [(CInt, CInt)] {
            while fcntl(fd, F_GETFD) < 0, unsafe open("/dev/null", flags) >= 0 {}
        }
    }

    static func readAll(_ fd: CInt, _ name: String) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe read(fd, &buffer, buffer.count)
            guard count >= 0 || errno == EINTR else {
                throw Failure(.notFound, "fn: \(name) cannot be read: \(unsafe String(cString: strerror(errno)))")
            }
            guard count != 0 else { return bytes }
            bytes += buffer[..<max(0, count)]
        }
    }

    static func readFile(_ path: String) throws -> [UInt8] {
        let fd = unsafe open(path, O_RDONLY)
        guard fd >= 0 else { throw Failure(.notFound, "fn: \(path): \(unsafe String(cString: strerror(errno)))") }
        defer { close(fd) }
        var info = stat()
        guard unsafe fstat(fd, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else {
            throw Failure(.notFound, "fn: \(path) is a directory: name a file")
        }
        return try readAll(fd, path)
    }
}

/// Rows of text in columns as wide as their widest cell.
struct Table {
    var header: [String]
    var rows: [[String]] = []

    var text: String {
        let widths = header.indices.map { column in ([header] + rows).map { $0[column].count }.max() ?? 0 }
        func line(_ cells: [String]) -> String {
            var text = ""
            for (index, cell) in cells.enumerated() {
                let isLast = index == cells.count - 1
                text += isLast ? cell : cell + String(repeating: " ", count: widths[index] - cell.count + 2)
            }
            return text
        }
        return ([line(header)] + rows.map(line)).joined(separator: "\n")
    }
}
