// SPDX-License-Identifier: Apache-2.0

/// Suggestions for misspelt words.
package enum Spelling {
    /// The candidate that is at most three edits away, or nothing.
    package static func nearest(_ word: String, among candidates: some Sequence<String>) -> String? {
        let ranked = candidates.map { ($0, distance(word, $0)) }.filter { $0.1 <= min(3, max(1, word.count / 2)) }
        return ranked.min { $0.1 < $1.1 }?.0
    }

    /// Levenshtein's edit distance.
    package static func distance(_ a: String, _ b: String) -> Int {
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
