// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// One group of cgroup v2: a directory, held open, whose files are its limits and its measurements.
///
/// The files of one controller each are in `Cgroup+Memory.swift` and its siblings. Where the tree has no such controller
/// (a host that cannot enforce), writers do nothing and readers return `nil`: "not measured" is never "zero".
package final class Cgroup: Sendable {
    package let path: String
    /// The controllers whose files this group has.
    package let controllers: Set<Controller>
    private let handle: Descriptor
    let peakFile: PeakFile
    /// Of the files that are read often; see `Gauge`.
    private let gauges: [String: Gauge]
    private static let gauged = [
        "memory.current", "memory.swap.current", "memory.stat", "memory.pressure", "memory.events.local",
    ]

    /// The last part of the path.
    package var name: String { String(path.split(separator: "/").last ?? "") }

    /// The directory, for `CLONE_INTO_CGROUP`.
    package var directory: CInt { handle.raw }

    /// Opens an existing group.
    package init(_ path: String) throws(CgroupError) {
        self.path = path
        do throws(SyscallError) {
            handle = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
            controllers = Controller.parse(try KernelFile.read("cgroup.controllers", at: handle.raw))
        } catch {
            throw .io(error)
        }
        peakFile = PeakFile()
        let directory = handle.raw
        gauges = Dictionary(uniqueKeysWithValues: Self.gauged.map { ($0, Gauge($0, at: directory)) })
    }

    // MARK: The tree

    /// Creates a group below this one; an existing one is opened.
    package func makeChild(_ name: String) throws(CgroupError) -> Cgroup {
        let child = "\(path)/\(name)"
        let isNew: Bool
        do throws(SyscallError) { isNew = try Directory.make(child) } catch { throw .io(error) }
        do throws(CgroupError) {
            return try Cgroup(child)
        } catch {
            // Without a descriptor for it nobody would ever remove it.
            if isNew { _ = unsafe rmdir(child) }
            throw error
        }
    }

    /// Hands controllers to the groups below.
    package func enable(_ controllers: some Collection<Controller>) throws(CgroupError) {
        guard !controllers.isEmpty else { return }
        try write("cgroup.subtree_control", controllers.map { "+\($0.rawValue)" }.sorted().joined(separator: " "))
    }

    /// Takes controllers back from the groups below.
    func disable(_ controllers: some Collection<Controller>) throws(CgroupError) {
        guard !controllers.isEmpty else { return }
        try write("cgroup.subtree_control", controllers.map { "-\($0.rawValue)" }.sorted().joined(separator: " "))
    }

    /// The groups directly below.
    package func children() throws(CgroupError) -> [Cgroup] {
        let names: [String]
        do throws(SyscallError) { names = try Directory.list(path) } catch { throw .io(error) }
        var groups: [Cgroup] = []
        for name in names where Directory.isDirectory("\(path)/\(name)") {
            groups.append(try Cgroup("\(path)/\(name)"))
        }
        return groups
    }

    /// Removes the group, which must be empty. One that is gone already is fine.
    package func remove() throws(CgroupError) {
        guard unsafe rmdir(path) != 0, errno != ENOENT else { return }
        throw .io(SyscallError("rmdir", path, errno))
    }

    /// Removes the group as soon as it is empty: for a moment after the end of its last process it can still be busy.
    package func remove(patience: Duration) throws(CgroupError) {
        let deadline = MonotonicClock.now() + patience.nanoseconds
        while true {
            do throws(CgroupError) {
                return try remove()
            } catch {
                guard case .io(let cause) = error, cause.errno == EBUSY, MonotonicClock.now() < deadline else {
                    throw error
                }
                usleep(1000)
            }
        }
    }

    /// Kills everything below and removes this group and all groups below it.
    package func destroy(timeout: Duration = .seconds(5)) throws(CgroupError) {
        try kill()
        _ = waitEmpty(timeout: timeout)
        for child in try children() { try child.destroy(timeout: timeout) }
        try remove(patience: timeout)
    }

    /// The processes directly in this group.
    package func processes() throws(CgroupError) -> [Int32] {
        try read("cgroup.procs").split(separator: "\n").compactMap { Int32($0) }
    }

    /// Moves a process here. Memory charged elsewhere stays there.
    package func add(_ process: Int32) throws(CgroupError) { try write("cgroup.procs", String(process)) }

    // MARK: Life

    /// Kills every process of the group and below (Linux 5.14).
    package func kill() throws(CgroupError) { try write("cgroup.kill", "1") }

    /// Asks the kernel to stop every process of the group; `waitFrozen` tells when they have.
    package func freeze() throws(CgroupError) { try write("cgroup.freeze", "1") }

    package func thaw() throws(CgroupError) { try write("cgroup.freeze", "0") }

    /// Whether every process has stopped (`cgroup.events`: `frozen 1`).
    package var isFrozen: Bool { events?["frozen"] == 1 }

    /// Whether any process lives here or below; a group that is gone has none. Where that cannot be read, one may.
    package var isPopulated: Bool {
        do throws(CgroupError) {
            return FlatKeyed(try read("cgroup.events"))["populated"] == 1
        } catch {
            return !error.isGone
        }
    }

    private var events: FlatKeyed? { (try? read("cgroup.events")).map { FlatKeyed($0) } }

    /// Waits until every process has stopped; `false` when that takes longer than `timeout`.
    package func waitFrozen(timeout: Duration) -> Bool { wait(timeout) { isFrozen } }

    /// Waits until no process is left; `false` when that takes longer than `timeout`.
    package func waitEmpty(timeout: Duration) -> Bool { wait(timeout) { !isPopulated } }

    /// A freeze takes about 0.1 ms and ends in microseconds once the last process has stopped: looking is faster than
    /// a notification that has to cross threads.
    private func wait(_ timeout: Duration, until condition: () -> Bool) -> Bool {
        let deadline = MonotonicClock.now() + timeout.nanoseconds
        var pause: UInt32 = 20
        while !condition() {
            guard MonotonicClock.now() < deadline else { return condition() }
            usleep(pause)
            pause = min(pause * 2, 2000)
        }
        return true
    }

    // MARK: Files

    func read(_ file: String) throws(CgroupError) -> String {
        do throws(SyscallError) {
            if let gauge = gauges[file] { return try gauge.read() }
            return try KernelFile.read(file, at: handle.raw)
        } catch {
            throw .io(SyscallError(error.call, "\(path)/\(file)", error.errno))
        }
    }

    func write(_ file: String, _ text: String) throws(CgroupError) {
        do throws(SyscallError) {
            try KernelFile.write(file, text, at: handle.raw)
        } catch {
            throw .io(SyscallError("write '\(text)' to", "\(path)/\(file)", error.errno))
        }
    }

    /// Writes a file of a controller, if this tree has that controller.
    func write(_ controller: Controller, _ file: String, _ text: String) throws(CgroupError) {
        if controllers.contains(controller) { try write(file, text) }
    }

    /// Reads a file of a controller; `nil` when it cannot be read.
    func measure(_ controller: Controller, _ file: String) -> String? {
        guard controllers.contains(controller) else { return nil }
        return try? read(file)
    }
}

extension Duration {
    var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
