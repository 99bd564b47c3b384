// SPDX-License-Identifier: Apache-2.0

/// One thing that is wrong with the configuration, and where.
package struct SettingsProblem: Sendable, Equatable, CustomStringConvertible {
    /// A file's path, an environment variable or a flag.
    package var source: String
    package var line: Int?
    package var column: Int?
    package var message: String

    package var description: String {
        let place = [line, column].compactMap { $0.map { ":\($0)" } }.joined()
        return "\(source)\(place): error: \(message)"
    }
}

/// Everything that is wrong with the configuration: all problems at once, in the order of the file.
package struct SettingsErrors: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [SettingsProblem]
    package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Suggestions for misspelt words.
package enum Spelling {
    /// The candidate that is at most three edits away, or nothing.
    package static func nearest(_ word: String, among candidates: some Sequence<String>) -> String? {
        let ranked = candidates.map { ($0, distance(word, $0)) }.filter { $0.1 <= min(3, max(1, word.count / 2)) }
        return ranked.min { $0.1 < $1.1 }?.0
    }

    /// Levenshtein's edit distance.
    static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a), Array(b))
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let change = diagonal + (x == y ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(change, diagonal + 1, row[j] + 1)
            }
        }
        return row[b.count]
    }
}
