// SPDX-License-Identifier: Apache-2.0
import Cgroup
import FnProtocol
import Glibc
import Linux
import Sandbox
import Settings

/// Looks whether this host can do what Ebb needs: one line a check, with the fix where one fails.
package struct Doctor: Sendable {
    private let settings: Settings
    private let places: Places
    private let configProblem: String?
    /// The tree in use; `nil` when no daemon runs here and the host's root is looked at.
    private let tree: CgroupTree?
    /// `nil` when no daemon runs here.
    private let egress: EgressNetwork.Status?

    package init(
        settings: Settings,
        places: Places,
        configProblem: String? = nil,
        tree: CgroupTree? = nil,
        egress: EgressNetwork.Status? = nil
    ) {
        self.egress = egress
        self.settings = settings
        self.places = places
        self.configProblem = configProblem
        self.tree = tree
    }

    package func report() -> DoctorReport {
        DoctorReport(
            checks: cgroupChecks() + [
                pressure(), reclaim(), swap(), userNamespaces(), overlay(), seccomp(), landlock(), root(), images(),
                Self.network(settings.network, egress), socket(), state(), config(),
            ]
        )
    }

    private func cgroupChecks() -> [DoctorCheck] {
        let (layout, mount) = CgroupTree.findLayout()
        let fix =
            "boot with systemd.unified_cgroup_hierarchy=1; or use `make run`, which brings a small machine of its own"
        guard layout == .unified else {
            return [
                DoctorCheck(
                    "cgroup v2",
                    .fail,
                    "the hierarchy is \(layout.rawValue): controllers are on cgroup v1",
                    fix: fix
                ),
                DoctorCheck("controllers", .fail, "memory, cpu and pids are not on cgroup v2", fix: fix),
                DoctorCheck("delegation", .fail, "there is no group with controllers to subdivide", fix: fix),
            ]
        }
        let group = tree?.root ?? (try? Cgroup(mount))
        let missing = Controller.required.filter { !(group?.controllers.contains($0) ?? false) }
        let controllers =
            missing.isEmpty
            ? DoctorCheck("controllers", .pass, "memory, cpu and pids at \(group?.path ?? mount)")
            : DoctorCheck(
                "controllers",
                .fail,
                "\(missing.map(\.rawValue).joined(separator: ", ")) not available at \(group?.path ?? mount)",
                fix:
                    "run the service with Delegate=yes, or the container with --cgroupns=private and a writable /sys/fs/cgroup"
            )
        let isWritable = unsafe access("\(group?.path ?? mount)/cgroup.subtree_control", W_OK) == 0
        let delegation =
            isWritable
            ? DoctorCheck("delegation", .pass, "\(group?.path ?? mount) may be subdivided")
            : DoctorCheck(
                "delegation",
                .fail,
                "\(group?.path ?? mount) may not be subdivided",
                fix: "run as root, or with Delegate=yes"
            )
        return [DoctorCheck("cgroup v2", .pass, "mounted at \(mount) (layout v2)"), controllers, delegation]
    }

    private func pressure() -> DoctorCheck {
        KernelFile.exists("/proc/pressure/memory")
            ? DoctorCheck("pressure (PSI)", .pass, "/proc/pressure/memory is there")
            : DoctorCheck(
                "pressure (PSI)",
                .warn,
                "the kernel reports no pressure stall information",
                fix: "boot with psi=1"
            )
    }

    private func reclaim() -> DoctorCheck {
        guard let tree, tree.enforced else {
            return DoctorCheck("memory.reclaim", .warn, "not looked at: no daemon with enforced limits runs here")
        }
        return KernelFile.exists("\(tree.pool.path)/memory.reclaim")
            ? DoctorCheck("memory.reclaim", .pass, "idle sandboxes can be shrunk")
            : DoctorCheck("memory.reclaim", .fail, "missing", fix: "use Linux 5.19 or newer")
    }

    private func swap() -> DoctorCheck {
        let lines = (try? KernelFile.read("/proc/swaps"))?.split(separator: "\n").dropFirst() ?? []
        guard let first = lines.first?.split(separator: " ").first else {
            return DoctorCheck(
                "swap or zram",
                .warn,
                "none: the memory of idle sandboxes cannot leave; they are frozen and give file pages only",
                fix: "modprobe zram && zramctl --find --size 2G, then mkswap and swapon it"
            )
        }
        return DoctorCheck("swap or zram", .pass, "\(first)\(lines.count > 1 ? " and \(lines.count - 1) more" : "")")
    }

    private func userNamespaces() -> DoctorCheck {
        let limit =
            (try? KernelFile.read("/proc/sys/user/max_user_namespaces")).flatMap { Int($0.filter(\.isNumber)) } ?? 0
        return limit > 0
            ? DoctorCheck("user namespaces", .pass, "up to \(limit)")
            : DoctorCheck("user namespaces", .fail, "none allowed", fix: "sysctl user.max_user_namespaces=10000")
    }

    private func overlay() -> DoctorCheck {
        let known = (try? KernelFile.read("/proc/filesystems"))?.contains("overlay") ?? false
        return known
            ? DoctorCheck("overlayfs", .pass, "known to the kernel")
            : DoctorCheck(
                "overlayfs",
                .warn,
                "not loaded; not needed by the runtimes that come with Ebb",
                fix: "modprobe overlay"
            )
    }

    private func seccomp() -> DoctorCheck {
        KernelFile.exists("/proc/sys/kernel/seccomp/actions_avail")
            ? DoctorCheck("seccomp", .pass, "filters are available")
            : DoctorCheck(
                "seccomp",
                .fail,
                "the kernel has no seccomp filters",
                fix: "use a kernel with CONFIG_SECCOMP_FILTER"
            )
    }

    private func landlock() -> DoctorCheck {
        if let landlock = Landlock.probe() {
            return DoctorCheck("landlock", .pass, "version \(landlock.version): functions write beneath /tmp alone")
        }
        return DoctorCheck(
            "landlock",
            .warn,
            "not in this kernel, or older than version \(Landlock.oldest): sandboxes do without this second lock on files",
            fix: "use Linux 5.19 or newer with CONFIG_SECURITY_LANDLOCK, and `landlock` in the kernel's lsm= list"
        )
    }

    private func root() -> DoctorCheck {
        guard geteuid() == 0 else {
            return DoctorCheck("privileges", .fail, "fnd has to run as root", fix: "use sudo, or the systemd unit")
        }
        let missing = Self.missingCapabilities
        return missing.isEmpty
            ? DoctorCheck("privileges", .pass, "running as root")
            : DoctorCheck(
                "privileges",
                .fail,
                "root lacks \(missing.map { "CAP_\($0)" }.joined(separator: ", "))",
                fix: "give the container \(missing.map { "--cap-add \($0)" }.joined(separator: " "))"
            )
    }

    /// What making a sandbox takes (include/uapi/linux/capability.h): an engine takes most of it from a container's root.
    private static let capabilities: [(number: UInt64, name: String)] = [
        (0, "CHOWN"), (1, "DAC_OVERRIDE"), (3, "FOWNER"), (5, "KILL"), (6, "SETGID"), (7, "SETUID"), (8, "SETPCAP"),
        (12, "NET_ADMIN"), (18, "SYS_CHROOT"), (19, "SYS_PTRACE"), (21, "SYS_ADMIN"), (27, "MKNOD"), (31, "SETFCAP"),
    ]

    private static var missingCapabilities: [String] {
        let status = (try? KernelFile.read("/proc/self/status")) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        guard let word = line?.split(separator: "\t").last, let held = UInt64(word, radix: 16) else { return [] }
        return capabilities.filter { held & (1 << $0.number) == 0 }.map(\.name)
    }

    private func images() -> DoctorCheck {
        let images = (try? Directory.list(places.images))?.filter { !$0.hasPrefix(".") } ?? []
        return images.isEmpty
            ? DoctorCheck(
                "root images",
                .fail,
                "none below \(places.images)",
                fix: "\(places.imageBuilder) python \(places.images)"
            )
            : DoctorCheck("root images", .pass, "\(images.joined(separator: ", ")) below \(places.images)")
    }

    private func socket() -> DoctorCheck {
        let path = settings.socket.path
        if KernelFile.exists(path) { return DoctorCheck("socket", .pass, path) }
        return DoctorCheck("socket", tree == nil ? .warn : .fail, "\(path) is not there", fix: "start fnd")
    }

    private func state() -> DoctorCheck {
        let path = settings.storage.state
        return unsafe access(path, W_OK) == 0
            ? DoctorCheck("state directory", .pass, "\(path) is writable")
            : DoctorCheck(
                "state directory",
                tree == nil ? .warn : .fail,
                "\(path) is not writable",
                fix: "mkdir -p \(path), or set storage.state"
            )
    }

    private func config() -> DoctorCheck {
        configProblem.map {
            DoctorCheck("config", .fail, $0, fix: "mend the file; `fn config check` shows every problem")
        }
            ?? DoctorCheck("config", .pass, "valid")
    }
}
