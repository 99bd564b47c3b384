// SPDX-License-Identifier: Apache-2.0

/// The controllers that Ebb uses, named as in `cgroup.controllers`.
package enum Controller: String, Sendable, CaseIterable {
    case memory
    case cpu
    case pids
    case io

    /// Without these a limit would be a wish.
    package static let required: [Controller] = [.memory, .cpu, .pids]

    /// Reads `cgroup.controllers`: names on one line, separated by spaces.
    static func parse(_ text: String) -> Set<Controller> {
        Set(text.split(whereSeparator: \.isWhitespace).compactMap { Controller(rawValue: String($0)) })
    }
}
