// SPDX-License-Identifier: Apache-2.0

/// A kind of edit of a living sandbox's limits.
package struct LimitChange: Sendable, Hashable {
    /// Which way a limit went.
    package enum Direction: String, Sendable {
        case up
        case down
    }

    /// `memory.max`, `memory.high` or `cpu.max`.
    package var file: String
    package var direction: Direction

    package init(file: String, _ direction: Direction) {
        self.file = file
        self.direction = direction
    }
}
