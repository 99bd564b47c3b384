// SPDX-License-Identifier: Apache-2.0
import Linux

/// What can go wrong with a cgroup, and what the operator can do about it.
package enum CgroupError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The host does not offer what enforcing limits needs.
    case unusable(reason: String, fix: String)
    /// Another process of ours, or of somebody else, lives in the group that the daemon needs.
    case busy(path: String)
    case io(SyscallError)

    package var description: String {
        switch self {
        case .unusable(let reason, let fix): "\(reason)\n  fix: \(fix)"
        case .busy(let path): "\(path) is in use by another process; is another fnd running on this tree?"
        case .io(let error): "\(error)"
        }
    }

    /// Whether the group does not exist any more.
    package var isGone: Bool {
        if case .io(let error) = self { error.errno == 2 || error.errno == 19 } else { false }
    }
}
