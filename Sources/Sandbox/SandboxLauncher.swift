// SPDX-License-Identifier: Apache-2.0
import CLinux
import Cgroup
import Glibc
import Linux
import Synchronization

/// Turns descriptions into running sandboxes.
///
/// All processes are cloned on one thread that lives as long as the launcher: a sandbox dies with the thread that made
/// it (`PR_SET_PDEATHSIG`), and so with the daemon, however the daemon ends.
package final class SandboxLauncher: Sendable {
    private let tree: CgroupTree
    private let events: EventWatcher
    private let workDirectory: String
    private let initPath: String
    private let bridgePath: String
    private let filter: FilterBytes
    private let landlock = Landlock.probe()
    private let namespaces: NamespacePool
    private let egress: EgressNetwork
    private let thread: SerialThread
    private let mounter: Mounter
    private let standards: StandardDescriptors
    private let templates = Mutex<[SandboxTemplate: MountNamespace]>([:])
    /// Of this process. Looked at behind each launch, for the next one: it costs 64 calls and is hardly ever another.
    private let ignoredSignals = Mutex(clinux_ignored_signals())

    /// - Parameters:
    ///   - stateDirectory: where the launcher may keep an empty directory to mount on.
    ///   - initPath: the static program that becomes process 1 of each sandbox.
    ///   - bridgePath: the static program that starts functions which are programs of their own.
    ///   - egress: where sandboxes are connected that may go out.
    ///   - readyNamespaces: how many sets of namespaces are kept in stock.
    package init(
        tree: CgroupTree,
        events: EventWatcher,
        stateDirectory: String,
        initPath: String,
        bridgePath: String,
        egress: EgressNetwork,
        readyNamespaces: Int = 8
    ) throws(SandboxError) {
        self.tree = tree
        self.events = events
        self.workDirectory = "\(stateDirectory)/mnt"
        self.initPath = initPath
        self.bridgePath = bridgePath
        self.egress = egress
        filter = FilterBytes(SeccompProfile().program)
        do throws(SyscallError) {
            standards = try StandardDescriptors()
            mounter = try Mounter()
            thread = try SerialThread(name: "launcher", isVital: true)
        } catch {
            throw .preparation(what: "the launcher", error)
        }
        namespaces = NamespacePool(target: readyNamespaces)
    }

    /// Waits until everything that is kept in stock is there; for measurements.
    package func waitUntilReady() { namespaces.waitUntilReady() }

    /// How many sets of namespaces are kept in stock from now on.
    package func setReadyNamespaces(_ count: Int) { namespaces.setTarget(count) }

    /// Starts a sandbox; blocks until its process 1 runs, or throws with nothing left behind.
    package func launch(_ spec: SandboxSpec) throws(SandboxError) -> Sandbox {
        defer {
            namespaces.refill()
            ignoredSignals.withLock { $0 = clinux_ignored_signals() }
        }
        let template = try namespace(of: spec.template)
        let group = try makeGroup(spec)
        do throws(SandboxError) {
            // Forgotten meanwhile, it is there for as long as it is used.
            return try withExtendedLifetime(template) { () throws(SandboxError) in
                try start(spec, in: group, template: template.raw)
            }
        } catch {
            try? group.remove(patience: .seconds(5))
            throw error
        }
    }

    /// Ends the launcher's thread and lets go of what is in stock. Sandboxes that still live die with it.
    package func shutdown() {
        thread.stop()
        mounter.stop()
        namespaces.shutdown()
        standards.close()
        templates.withLock { $0 = [:] }
    }

    /// Lets go of what was built for a root image that is gone. Sandboxes that run on it keep it until they end.
    package func forget(imageRoot: String) {
        templates.withLock { templates in templates = templates.filter { $0.key.imageRoot != imageRoot } }
    }

    /// Gives a sandbox that was started without code its code, and the limits that are written once. It must be frozen, or
    /// wait, and have run nothing that is not ours: its mount namespace is entered.
    ///
    /// The limits on memory and processor, which are edited all the time, are the caller's.
    package func furnish(
        _ sandbox: Sandbox,
        codeDirectory: String,
        limits: SandboxLimits
    ) throws(SandboxError) {
        do throws(SyscallError) {
            let code = Descriptor(owning: try Self.detachedMount(codeDirectory))
            try mounter.move(code.raw, to: "/var/task", of: sandbox.process)
        } catch {
            throw .preparation(what: "code of sandbox \(sandbox.id)", error)
        }
        do throws(CgroupError) {
            try sandbox.cgroup.setSwapMax(limits.swapMax)
            try sandbox.cgroup.setCPUWeight(limits.cpuWeight)
            try sandbox.cgroup.setPidsMax(limits.pids)
            for device in limits.devices where limits.io != .none { try sandbox.cgroup.setIOMax(device, limits.io) }
            try sandbox.cgroup.setIOWeight(limits.ioWeight)
        } catch {
            throw .limits(error)
        }
    }

    // MARK: Parts

    private func namespace(of template: SandboxTemplate) throws(SandboxError) -> MountNamespace {
        if let known = templates.withLock({ $0[template] }) { return known }
        do throws(SyscallError) {
            let work = "\(workDirectory)/\(template.name)"
            let programs = [("/.init", initPath), ("/.bridge", bridgePath)]
            let made = MountNamespace(
                try TemplateNamespace.build(template, workDirectory: work, programs: programs)
            )
            return templates.withLock { templates in
                // Two first launches may race: both namespaces are the same, one is kept.
                if let other = templates[template] { return other }
                templates[template] = made
                return made
            }
        } catch {
            throw .preparation(what: "root image of runtime '\(template.name)'", error)
        }
    }

    /// The leaf with its limits: they hold from the process's first instruction.
    private func makeGroup(_ spec: SandboxSpec) throws(SandboxError) -> Cgroup {
        do throws(CgroupError) {
            let group = try tree.pool.makeChild(spec.id)
            Failpoint.pass("group-made")
            do throws(CgroupError) {
                try tree.requireControllers(of: group)
                let limits = spec.limits
                try group.setOOMGroup(true)
                try group.setMemoryMax(limits.memoryMax)
                try group.setMemoryHigh(nil)
                try group.setMemoryLow(limits.memoryLow)
                try group.setSwapMax(limits.swapMax)
                try group.setCPUMax(limits.cpu)
                try group.setCPUWeight(limits.cpuWeight)
                try group.setPidsMax(limits.pids)
                for device in limits.devices where limits.io != .none { try group.setIOMax(device, limits.io) }
                if limits.ioWeight != 100 { try group.setIOWeight(limits.ioWeight) }
                Failpoint.pass("limits-set")
            } catch {
                try? group.remove()
                throw error
            }
            return group
        } catch {
            throw .limits(error)
        }
    }

    private func start(_ spec: SandboxSpec, in group: Cgroup, template: Int32) throws(SandboxError) -> Sandbox {
        let parts = try gather(spec)
        Failpoint.pass("parts-gathered")
        let (filter, landlock, standards) = (filter, landlock, standards)
        let ignoredSignals = ignoredSignals.withLock { $0 }
        let launched: clinux_launched
        do throws(SandboxError) {
            launched = try thread.run { () throws(SandboxError) -> clinux_launched in
                Failpoint.pass("launcher")
                do throws(SyscallError) {
                    try standards.take(output: parts.outputWrite, extensions: parts.extensionOutput?.write)
                } catch {
                    throw .preparation(what: "sandbox \(spec.id)", error)
                }
                defer { standards.reset() }
                let plan = LaunchPlan(
                    cgroup: group.directory,
                    mountNamespace: template,
                    networkNamespace: parts.namespaces.network,
                    ipcNamespace: parts.namespaces.ipc,
                    utsNamespace: parts.namespaces.uts,
                    userNamespace: parts.slot.namespace,
                    codeMount: parts.code ?? -1,
                    layersMount: parts.layers ?? -1,
                    resolverMount: parts.resolver ?? -1,
                    tmpMount: parts.namespaces.tmp.mount,
                    controlMount: parts.namespaces.control.mount,
                    standards: standards,
                    hasExtensionOutput: parts.extensionOutput != nil
                )
                return try plan.run(spec, filter: filter, landlock: landlock, ignoredSignals: ignoredSignals)
            }
        } catch {
            abandon(parts)
            throw error
        }
        Failpoint.pass("launched")
        parts.closeBorrowed()
        let (slot, namespaces, link, egress) = (parts.slot, namespaces, parts.link, egress)
        let sandbox = Sandbox(
            id: spec.id,
            pid: launched.pid,
            pidfd: launched.pidfd,
            cgroup: group,
            tmp: parts.namespaces.tmp,
            control: parts.namespaces.control,
            network: parts.namespaces.network,
            listener: parts.namespaces.listener,
            output: parts.outputRead,
            address: link?.address,
            extensionOutput: parts.extensionOutput?.read,
            events: events
        ) {
            namespaces.giveBack(slot)
            if let link { egress.detach(link) }
        }
        do throws(SyscallError) {
            try sandbox.watch()
        } catch {
            throw .preparation(what: "sandbox \(spec.id)", error)
        }
        return sandbox
    }

    /// The descriptors that one launch needs.
    private struct Parts: Sendable {
        var namespaces: NamespaceSet
        var slot: NamespacePool.Slot
        var code: CInt?
        var layers: CInt?
        /// Both only with egress.
        var resolver: CInt?
        var link: EgressLink?
        var outputRead: CInt
        var outputWrite: CInt
        var extensionOutput: (read: CInt, write: CInt)?

        /// What the child has its own copies of by now.
        func closeBorrowed() {
            for fd in [namespaces.ipc, namespaces.uts, outputWrite] { close(fd) }
            for fd in [code, layers, resolver, extensionOutput?.write] { if let fd { close(fd) } }
        }
    }

    private func gather(_ spec: SandboxSpec) throws(SandboxError) -> Parts {
        var parts = try gatherUnconnected(spec)
        guard spec.network == .egress else { return parts }
        do throws(SandboxError) {
            try connect(&parts)
            return parts
        } catch {
            abandon(parts)
            throw error
        }
    }

    /// What a launch that failed had in hand.
    private func abandon(_ parts: Parts) {
        parts.closeBorrowed()
        for fd in [parts.namespaces.network, parts.namespaces.listener, parts.outputRead] { close(fd) }
        if let output = parts.extensionOutput { close(output.read) }
        namespaces.giveBack(parts.slot)
        if let link = parts.link { egress.detach(link) }
    }

    /// The way out.
    private func connect(_ parts: inout Parts) throws(SandboxError) {
        try egress.require()
        do throws(SyscallError) { parts.resolver = try egress.resolverMount() } catch {
            throw .preparation(what: "/etc/resolv.conf", error)
        }
        parts.link = try egress.attach(parts.namespaces.network)
    }

    private func gatherUnconnected(_ spec: SandboxSpec) throws(SandboxError) -> Parts {
        var taken: [CInt] = []
        do throws(SyscallError) {
            // In the daemon's own mount namespace: a copy of a mount can only be made from where one stands.
            let mounts = try [spec.codeDirectory, spec.layersDirectory]
                .map { directory throws(SyscallError) -> CInt? in
                    guard let directory else { return nil }
                    taken.append(try Self.detachedMount(directory))
                    return taken.last
                }
            let (read, write) = try Descriptor.pipe()
            taken += [read, write]
            let extensionOutput = spec.hasExtensions ? try Descriptor.pipe() : nil
            if let extensionOutput { taken += [extensionOutput.read, extensionOutput.write] }
            try Failpoint.fail("parts-set")
            let set = try namespaces.takeSet()
            taken += [set.network, set.listener, set.ipc, set.uts]
            try Failpoint.fail("parts-tmp")
            try set.tmp.begin(at: spec.tmpSize)
            set.control.announce(
                memory: spec.limits.memoryMax,
                cpu: spec.announcedCPU ?? spec.limits.cpu,
                tmp: spec.tmpSize
            )
            // For what is kept of a sandbox that runs, and for its connections: a runtime that could not be accepted would
            // wait until its start is given up.
            try Descriptor.requireRoom(for: 32, some: write)
            try Failpoint.fail("parts-slot")
            let slot = try namespaces.takeSlot()
            // So that the function may open /dev/stdout again, by name.
            for end in [write, extensionOutput?.write ?? write] { _ = fchown(end, slot.hostID, slot.hostID) }
            return Parts(
                namespaces: set,
                slot: slot,
                code: mounts[0],
                layers: mounts[1],
                outputRead: read,
                outputWrite: write,
                extensionOutput: extensionOutput
            )
        } catch {
            for fd in taken { close(fd) }
            throw .preparation(what: "sandbox \(spec.id)", error)
        }
    }

    private static func detachedMount(_ directory: String) throws(SyscallError) -> CInt {
        try SyscallError.check("open_tree", directory, unsafe clinux_detached_mount(directory))
    }
}

/// A template's mount namespace, for as long as somebody holds it.
private final class MountNamespace: Sendable {
    private let descriptor: Descriptor

    init(_ raw: Int32) { descriptor = Descriptor(owning: raw) }

    var raw: Int32 { descriptor.raw }
}
