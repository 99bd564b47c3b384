// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// The daemon's part of the cgroup hierarchy, found and built at start, emptied of what a former daemon left.
///
/// ```
/// <base>/fn.slice/     the budget of all sandboxes
///     images/          page cache of the runtimes, so that it is charged to no sandbox
///     daemon/          this process: a group with children may not hold processes itself
///     pool/<sandbox>   one leaf for each sandbox, for life
/// ```
package struct CgroupTree: Sendable {
    /// How the host mounts its hierarchies.
    package enum Layout: String, Sendable {
        /// Everything on cgroup v2.
        case unified = "v2"
        /// Controllers on v1, and a v2 mount beside them without any.
        case hybrid
        case legacy = "v1"
        case missing = "none"
    }

    private let base: Cgroup
    package let root: Cgroup
    package let daemon: Cgroup
    package let pool: Cgroup
    package let images: Cgroup
    /// Whether memory, cpu and pids limits are the kernel's word here.
    package let enforced: Bool
    package let layout: Layout
    /// What could not be removed of a former run, and why.
    package let stuck: [String]

    /// The v2 mount of this host and how it is laid out.
    package static func findLayout() -> (Layout, mount: String) {
        if unsafe clinux_statfs_is_cgroup2("/sys/fs/cgroup") == 1 { return (.unified, "/sys/fs/cgroup") }
        if unsafe clinux_statfs_is_cgroup2("/sys/fs/cgroup/unified") == 1 { return (.hybrid, "/sys/fs/cgroup/unified") }
        return (KernelFile.exists("/sys/fs/cgroup/memory") ? .legacy : .missing, "")
    }

    /// Finds a place, builds the tree, moves this process into its leaf and sweeps what a former daemon left.
    ///
    /// The place is the group this process was started in when that was delegated to it (systemd's `Delegate=yes`, a
    /// container's own namespace), else the root of the hierarchy.
    /// - Parameters:
    ///   - allowUnenforced: on a host without the controllers, go on without limits.
    ///   - base: the group to build below, in place of the one that would be found.
    package static func discover(allowUnenforced: Bool, base: String? = nil) throws(CgroupError) -> CgroupTree {
        let (layout, mount) = findLayout()
        guard !mount.isEmpty else { throw unusable("no cgroup v2 hierarchy is mounted (found: \(layout.rawValue))") }
        let place: String = if let base { base } else { try ownGroup(mount) }
        let group = try Cgroup(place)
        let missing = Controller.required.filter { !group.controllers.contains($0) }
        guard missing.isEmpty || allowUnenforced else {
            let names = missing.map(\.rawValue).joined(separator: ", ")
            throw unusable("\(group.path) has no \(names) controller (this host's cgroup layout is \(layout.rawValue))")
        }
        return try build(below: group, layout: layout, enforced: missing.isEmpty)
    }

    /// Throws where limits are to be enforced and a group has lost a controller for them: somebody wrote to
    /// `cgroup.subtree_control` above it, and what starts there would have no limits.
    package func requireControllers(of group: Cgroup) throws(CgroupError) {
        guard enforced else { return }
        let missing = Controller.required.filter { !group.controllers.contains($0) }.map(\.rawValue)
        guard !missing.isEmpty else { return }
        throw .unusable(
            reason:
                "\(group.path) has no \(missing.joined(separator: ", ")) controller any more, and nothing is started "
                + "without limits",
            fix: "give the controller back to \(root.path) and \(pool.path) (cgroup.subtree_control), or restart fnd"
        )
    }

    private static func unusable(_ reason: String) -> CgroupError {
        .unusable(
            reason: "cgroup v2 cannot be used: \(reason)",
            fix: "boot with systemd.unified_cgroup_hierarchy=1, or run the service with Delegate=yes, or the container "
                + "with --cgroupns=private and a writable /sys/fs/cgroup; for development only: --allow-unenforced-limits"
        )
    }

    /// The group of this process, as a path: `0::/system.slice/fn.service`. The leaf of a former run counts as its tree.
    private static func ownGroup(_ mount: String) throws(CgroupError) -> String {
        let text: String
        do throws(SyscallError) { text = try KernelFile.read("/proc/self/cgroup") } catch { throw .io(error) }
        let line = text.split(separator: "\n").first { $0.hasPrefix("0::") }
        var own = line.map { String($0.dropFirst(3)) } ?? "/"
        if own.hasSuffix("/fn.slice/daemon") { own.removeLast("/fn.slice/daemon".count) }
        let isDelegated = own != "/" && isWritable("\(mount)\(own)") && !own.contains("..") && isOurs(own)
        return isDelegated ? "\(mount)\(own)" : mount
    }

    /// A service's or a container's group is its own; a login session's scope is shared with the user's shell.
    private static func isOurs(_ group: String) -> Bool { !group.hasSuffix(".scope") || group.contains("container") }

    private static func isWritable(_ path: String) -> Bool { unsafe access("\(path)/cgroup.procs", W_OK) == 0 }

    private static func build(below base: Cgroup, layout: Layout, enforced: Bool) throws(CgroupError) -> CgroupTree {
        let wanted = Controller.allCases.filter { base.controllers.contains($0) }
        // A group with processes cannot hand controllers down ("no internal processes"): ours leave first, to a leaf.
        let root = try base.makeChild("fn.slice")
        let daemon = try root.makeChild("daemon")
        guard try !daemon.processes().contains(where: isAnotherDaemon) else { throw .busy(path: daemon.path) }
        try daemon.add(getpid())
        // Only the true root of the hierarchy, which has no type, may hold processes and hand controllers down.
        if !isTrueRoot(base) { try moveAll(from: base, to: daemon) }
        try base.enable(wanted)
        try root.enable(wanted)
        let old = try root.makeChild("pool")
        let images = try root.makeChild("images")
        // A process that waits inside the kernel can outlive its kill. It keeps nobody from starting: names differ from one
        // run to the next.
        var stuck: [String] = []
        for leftover in try old.children() {
            do throws(CgroupError) { try leftover.destroy() } catch { stuck.append("\(leftover.path): \(error)") }
        }
        try old.enable(wanted)
        // Opened again, now that the files of the controllers are there.
        return CgroupTree(
            base: base,
            root: try Cgroup(root.path),
            daemon: try Cgroup(daemon.path),
            pool: try Cgroup(old.path),
            images: try Cgroup(images.path),
            enforced: enforced,
            layout: layout,
            stuck: stuck
        )
    }

    private static func isTrueRoot(_ group: Cgroup) -> Bool { !KernelFile.exists("\(group.path)/cgroup.type") }

    private static func isAnotherDaemon(_ process: Int32) -> Bool {
        process != getpid() && (try? KernelFile.read("/proc/\(process)/comm")) == "fnd\n"
    }

    private static func moveAll(from group: Cgroup, to leaf: Cgroup) throws(CgroupError) {
        for process in try group.processes() where process != 0 { try? leaf.add(process) }
    }

    /// Edits what all sandboxes together may have; `nil` is no limit. Does nothing for a controller that is not there.
    package func setTotals(cpu: CPUQuota?, pids: Int?, swap: Bytes?) throws(CgroupError) {
        try pool.setCPUMax(cpu)
        try pool.setPidsMax(pids)
        try pool.setSwapMax(swap)
    }

    /// Removes the sandboxes' groups, and then the daemon's own, if there is a group that may take the daemon in.
    package func teardown() throws(CgroupError) {
        try pool.destroy()
        try images.destroy()
        // A group that hands controllers down may hold no process: the base takes that back first. Where the base is
        // somebody else's as well, or nobody takes us, the two empty groups stay, and the next start uses them.
        try? root.disable(root.controllers)
        if !Self.isTrueRoot(base) { try? base.disable(base.controllers) }
        guard (try? base.add(getpid())) != nil else { return }
        try Self.moveAll(from: daemon, to: base)
        // A helper of ours may be ending in there.
        try daemon.remove(patience: .seconds(5))
        try root.remove(patience: .seconds(5))
    }
}
