// SPDX-License-Identifier: Apache-2.0
import CLinux
import Cgroup
import Linux

/// The steps from a description to a running process, in order; the raw values are C's.
package enum LaunchStep: Int32, Sendable {
    case clone = 1
    case mountNamespace
    case proc
    case procMasks
    case tmp
    case control
    case code
    case layers
    case resolver
    case workingDirectory
    case networkNamespace
    case ipcNamespace
    case utsNamespace
    case resourceLimits
    case session
    case keyring
    case userNamespace
    case descriptors
    case securebits
    case boundingSet
    case identity
    case capabilities
    case noNewPrivileges
    case landlock
    case parentDeathSignal
    case signals
    case seccomp
    case exec
}

/// Why a sandbox could not be started or taken down.
package enum SandboxError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Its cgroup could not be made or limited.
    case limits(CgroupError)
    /// Something it is made of could not be had: an image, a namespace, a pipe.
    case preparation(what: String, SyscallError)
    /// The child failed on its way to the program.
    case setup(LaunchStep, SyscallError)
    /// A way out of its network namespace could not be had.
    case network(String)
    /// Something is left after everything was tried.
    case leftover(String)

    package var description: String {
        switch self {
        case .limits(let error): "limits: \(error)"
        case .preparation(let what, let error): "\(what): \(error)"
        case .setup(let step, let error): "sandbox set-up failed at step \(step): \(error)"
        case .network(let what): what
        case .leftover(let what): what
        }
    }
}
