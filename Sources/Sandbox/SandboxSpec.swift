// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Units

/// What all sandboxes of one runtime share: a root image and the runtime's own files.
package struct SandboxTemplate: Sendable, Hashable {
    package var name: String
    /// The root file system's directory on the host; never the host's own root.
    package var imageRoot: String
    /// Mounted read-only at `/var/runtime`. `nil` makes the image somebody else's: nothing is made or mounted in it, and
    /// what sandboxes need lies in a layer of the daemon's over it.
    package var runtimeDirectory: String?

    package init(name: String, imageRoot: String, runtimeDirectory: String?) {
        self.name = name
        self.imageRoot = imageRoot
        self.runtimeDirectory = runtimeDirectory
    }
}

/// The limits that a sandbox starts with. They live in its cgroup and may be edited from then on.
package struct SandboxLimits: Sendable, Equatable {
    package var memoryMax: Bytes
    package var memoryLow = Bytes.zero
    /// How much may be swapped out; `nil` is no limit of its own.
    package var swapMax: Bytes?
    /// `nil` is no limit.
    package var cpu: CPUQuota?
    package var cpuWeight = 100
    package var pids = 128
    /// To and from the disks that code and images are on; where the kernel and the disk allow.
    package var io = IOLimits.none
    package var ioWeight = 100
    package var devices: [BlockDevice] = []

    package init(memoryMax: Bytes, cpu: CPUQuota? = nil) {
        self.memoryMax = memoryMax
        self.cpu = cpu
    }
}

/// One sandbox, described.
package struct SandboxSpec: Sendable {
    /// The name of its cgroup and its host name; unique among those that live.
    package var id: String
    package var template: SandboxTemplate
    /// Mounted read-only at `/var/task`; `nil` leaves the image's own there, or it comes while the sandbox runs.
    package var codeDirectory: String?
    package var workingDirectory = "/var/task"
    /// Mounted read-only at `/opt`; `nil` leaves the image's own there.
    package var layersDirectory: String?
    /// The command inside the sandbox; the first is an absolute path.
    package var arguments: [String]
    package var environment: [String: String]
    package var limits: SandboxLimits
    /// The share of the processor that the program is told of, when it starts with another one for a while.
    package var announcedCPU: CPUQuota?
    package var proc = ProcView.minimal
    /// The size of `/tmp`, whose pages count towards the memory limit.
    package var tmpSize: Bytes
    package var network = NetworkAccess.none
    /// Whether its code or its layers have extensions: what these print is told apart from what the function does.
    package var hasExtensions = false

    package init(
        id: String,
        template: SandboxTemplate,
        codeDirectory: String?,
        arguments: [String],
        environment: [String: String] = [:],
        limits: SandboxLimits,
        tmpSize: Bytes = .mib(64)
    ) {
        self.id = id
        self.template = template
        self.codeDirectory = codeDirectory
        self.arguments = arguments
        self.environment = environment
        self.limits = limits
        self.tmpSize = tmpSize
    }
}
