// SPDX-License-Identifier: Apache-2.0
// The mount flags at the end have the kernel's names.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CLinux
import Glibc
import Linux

/// A mount namespace that is finished but for what differs from sandbox to sandbox.
///
/// Built once for each image and runtime, before any untrusted code runs; a launch copies it (17 µs), whatever number
/// of mounts the host has. The old root is gone from it: nothing of the host can be reached.
enum TemplateNamespace {
    /// Directories that are mounted over in every sandbox.
    private static let common = ["proc", "tmp", "dev", "run", "run/fn", "etc"]
    /// Those of an image that is ours, and made in it once.
    private static let mountPoints = common + ["var", "var/task", "var/runtime", "opt"]
    /// A file that is mounted over where a sandbox may go out.
    private static let resolver = "/etc/resolv.conf"

    /// - Parameters:
    ///   - workDirectory: an empty directory of the daemon's, where the root is put together.
    ///   - programs: static programs of ours, as places in the root and on the host; `/.init` becomes process 1.
    /// - Returns: the namespace.
    static func build(
        _ template: SandboxTemplate,
        workDirectory: String,
        programs: [(place: String, path: String)]
    ) throws(SyscallError) -> Int32 {
        let hosts = "\(workDirectory).hosts-\(UInt32.random(in: 0 ... .max))"  // two may build the same at once
        let files = programs + [("/etc/hosts", hosts)]
        if template.runtimeDirectory != nil { try makeMountPoints(template.imageRoot, mountPoints, files) }
        try Directory.makeAll(workDirectory)
        try touch(hosts)
        try KernelFile.write(hosts, Self.hosts)
        try SyscallError.check("chmod", hosts, unsafe chmod(hosts, 0o644))  // whatever the daemon's umask is
        defer { _ = unsafe unlink(hosts) }  // the mount keeps it
        // Mount namespaces belong to threads: this one does its work and ends, the namespace lives on in its descriptor.
        return try Thread.run(name: "template") { () throws(SyscallError) -> Int32 in
            try SyscallError.check("unshare", "mount namespace", clinux_unshare(CLINUX_MOUNT))
            // Nothing that is mounted here may show up on the host, nor the other way round.
            try mount(nil, "/", nil, MS_REC | MS_PRIVATE, nil)
            let namespace = try Descriptor.open("/proc/thread-self/ns/mnt", O_RDONLY)
            try assemble(template, workDirectory, files)
            try enter(workDirectory)
            return namespace.release()
        }
    }

    /// The names by which Lambda's extensions know their own sandbox.
    private static let hosts = "127.0.0.1 localhost sandbox sandbox.localdomain\n"

    private static func makeMountPoints(
        _ root: String,
        _ directories: [String],
        _ files: [(place: String, path: String)]
    ) throws(SyscallError) {
        for directory in directories {
            try Directory.make("\(root)/\(directory)")
            try check(directory, in: root)
        }
        for place in files.map(\.place) + [resolver] {
            try touch(root + place)
            try check(String(place.dropFirst()), in: root)
        }
    }

    private static func assemble(
        _ template: SandboxTemplate,
        _ root: String,
        _ files: [(place: String, path: String)]
    ) throws(SyscallError) {
        if let runtime = template.runtimeDirectory {
            try bind(template.imageRoot, root)
            try bind(runtime, "\(root)/var/runtime")
        } else {
            try lay(over: template.imageRoot, at: root, files)
        }
        for file in files { try bind(file.path, root + file.place) }
        try devices("\(root)/dev")
    }

    private static func bind(_ source: String, _ target: String) throws(SyscallError) {
        try mount(source, target, nil, MS_BIND, nil)
        try mount(nil, target, nil, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, nil)
    }

    /// Somebody else's image, under a layer of ours that holds the mount points: whatever it has in their places, a
    /// symbolic link for one, is covered and never followed. There is no upper layer, so nothing can be written.
    private static func lay(
        over image: String,
        at root: String,
        _ files: [(place: String, path: String)]
    ) throws(SyscallError) {
        try mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
        try makeMountPoints(root, common, files)
        let top = try Descriptor.open(root, Descriptor.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        let bottom = try Descriptor.open(image, Descriptor.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        // By descriptors: a path may hold what separates overlay's options.
        let options = "lowerdir=/proc/thread-self/fd/\(top.raw):/proc/thread-self/fd/\(bottom.raw)"
        try mount("overlay", root, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options)
    }

    /// Five harmless devices, made rather than bound, and no terminal.
    private static func devices(_ path: String) throws(SyscallError) {
        try mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")
        let nodes: [(String, UInt32)] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]
        for (name, minor) in nodes {
            let node = "\(path)/\(name)"
            try SyscallError.check("mknod", node, unsafe clinux_make_node(node, UInt32(S_IFCHR) | 0o666, 1, minor))
            try SyscallError.check("chmod", node, unsafe chmod(node, 0o666))  // whatever the daemon's umask is
        }
        let links = [
            ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("shm", "/tmp"),
        ]
        for (name, target) in links {
            try SyscallError.check("symlink", name, unsafe symlink(target, "\(path)/\(name)"))
        }
        try mount(nil, path, nil, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC, nil)
    }

    /// Makes the assembled tree the root, and lets go of the old one.
    private static func enter(_ root: String) throws(SyscallError) {
        try SyscallError.check("chdir", root, unsafe chdir(root))
        try SyscallError.check("pivot_root", root, clinux_pivot_root_here())
        // Both roots are stacked at "." now, the old one on top.
        try SyscallError.check("umount", "old root", clinux_detach_here())
        try SyscallError.check("chdir", "/", unsafe chdir("/"))
    }

    /// Refuses an image that would send a mount elsewhere by a link. Nothing else writes there: what is checked stays so.
    private static func check(_ point: String, in image: String) throws(SyscallError) {
        let fd = unsafe clinux_open_beneath(image, point)
        close(try SyscallError.check("open without links", "\(image)/\(point)", fd))
    }

    private static func touch(_ path: String) throws(SyscallError) {
        let flags = O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC
        close(try SyscallError.check("create", path, unsafe open(path, flags, 0o755)))
    }

    private static func mount(
        _ source: String?,
        _ target: String,
        _ type: String?,
        _ flags: UInt,
        _ options: String?
    ) throws(SyscallError) {
        let result = unsafe clinux_mount(source ?? "none", target, type ?? "", flags, options ?? "")
        try SyscallError.check("mount", target, result)
    }
}

// The kernel's numbers (include/uapi/linux/mount.h), under the kernel's names.
private let MS_RDONLY: UInt = 1
private let MS_NOSUID: UInt = 2
private let MS_NODEV: UInt = 4
private let MS_NOEXEC: UInt = 8
private let MS_REMOUNT: UInt = 32
private let MS_BIND: UInt = 4096
private let MS_REC: UInt = 16384
private let MS_PRIVATE: UInt = 1 << 18
