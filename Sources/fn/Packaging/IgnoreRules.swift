// SPDX-License-Identifier: Apache-2.0

/// What of a directory is not part of a function: what tools leave behind, and what its `.fnignore` says.
///
/// A line of `.fnignore` is a pattern, as in a `.gitignore` but for its rarer forms:
/// - `*` is any text without a slash, `?` one such character, `**` any number of directories;
/// - a slash at its start or in its middle ties it to the top directory, else it holds at every depth;
/// - a slash at its end means directories alone; what is in an ignored directory is ignored;
/// - `!` in front takes back what an earlier line ignored; the last line that matches decides;
/// - empty lines and those that begin with `#` say nothing.
struct IgnoreRules: Equatable {
    static let file = ".fnignore"

    private struct Pattern: Equatable {
        var parts: [String]
        var isOnlyDirectories = false
        var takesBack = false

        init(_ line: String) {
            var text = line[...]
            if text.hasPrefix("!") { (takesBack, text) = (true, text.dropFirst()) }
            if text.hasSuffix("/") { (isOnlyDirectories, text) = (true, text.dropLast()) }
            let isTied = text.contains("/")
            parts = (isTied ? [] : ["**"]) + text.split(separator: "/").map(String.init)
        }
    }

    private static let always = [
        ".git/", ".hg/", ".svn/", ".jj/", "__pycache__/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/",
        ".DS_Store", "*.swp", "*~", file,
    ]

    private let patterns: [Pattern]

    init(_ text: String = "") {
        let lines = text.split { $0 == "\n" || $0 == "\r\n" }
            .map { $0.trimmingEnd() }
            .filter { !$0.isEmpty && !$0.hasPrefix("#") }
        patterns = (Self.always + lines).map { Pattern($0) }
    }

    /// The rules of a directory.
    init(directory: String) throws {
        let path = "\(directory)/\(Self.file)"
        self.init(Siblings.exists(path) ? String(decoding: try Console.readFile(path), as: UTF8.self) : "")
    }

    /// - Parameter path: from the top directory, without a slash in front.
    func ignores(_ path: String, isDirectory: Bool) -> Bool {
        let parts = path.split(separator: "/").map(String.init)
        let last = patterns.last {
            (isDirectory || !$0.isOnlyDirectories) && Self.matches($0.parts[...], parts[...])
        }
        return last.map { !$0.takesBack } ?? false
    }

    private static func matches(_ pattern: ArraySlice<String>, _ path: ArraySlice<String>) -> Bool {
        guard let first = pattern.first else { return path.isEmpty }
        if first == "**" {
            let rest = pattern.dropFirst()
            if rest.isEmpty { return !path.isEmpty }
            return path.indices.contains { matches(rest, path[$0...]) }
        }
        guard let name = path.first, matches(Array(first), Array(name)) else { return false }
        return matches(pattern.dropFirst(), path.dropFirst())
    }

    /// One name against `*` and `?`: goes back to the last star only, so that no pattern takes long.
    private static func matches(_ pattern: [Character], _ name: [Character]) -> Bool {
        var (p, n) = (0, 0)
        var star: (p: Int, n: Int)?
        while n < name.count {
            if p < pattern.count, pattern[p] == "*" {
                star = (p, n)
                p += 1
            } else if p < pattern.count, pattern[p] == "?" || pattern[p] == name[n] {
                (p, n) = (p + 1, n + 1)
            } else if let last = star {
                star = (last.p, last.n + 1)
                (p, n) = (last.p + 1, last.n + 1)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == "*" }
    }
}

extension Substring {
    fileprivate func trimmingEnd() -> String {
        var rest = self
        while rest.last?.isWhitespace == true { rest = rest.dropLast() }
        return String(rest)
    }
}
