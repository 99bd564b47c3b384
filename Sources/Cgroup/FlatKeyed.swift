// SPDX-License-Identifier: Apache-2.0

/// The kernel's "flat keyed" files, one parser for all of them: `memory.stat`, `memory.events`, `cpu.stat`.
///
/// ```
/// anon 67108864
/// file 1245184
/// ```
package struct FlatKeyed: Sendable, Equatable {
    private let values: [Substring: Int64]

    package init(_ text: String) {
        var values: [Substring: Int64] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1)
            if parts.count == 2, let value = Int64(parts[1]) { values[parts[0]] = value }
        }
        self.values = values
    }

    /// The value of a key; `nil` when this kernel does not report it.
    package subscript(key: String) -> Int64? { values[key[...]] }
}
