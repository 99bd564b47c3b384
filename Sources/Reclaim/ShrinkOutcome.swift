// SPDX-License-Identifier: Apache-2.0
import Policy

/// How a shrink ended.
package enum ShrinkOutcome: Sendable, Equatable {
    /// Why a shrink ended without lowering anything.
    package enum Stop: String, Sendable {
        case woken = "a request came"
        case wouldNotFreeze = "it would not freeze within 200 ms"
    }

    case shrunk(Shrink)
    case stopped(Stop)
}
