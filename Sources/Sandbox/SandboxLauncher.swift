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
    private let profile: SeccompProfile
    private let namespaces: NamespacePool
    private let thread = SerialThread(name: "launcher")
    private let templates = Mutex<[SandboxTemplate: MountNamespace]>([:])

    /// - Parameters:
    ///   - stateDirectory: where the launcher may keep an empty directory to mount on.
    ///   - initPath: the static program that becomes process 1 of each sandbox.
    ///   - bridgePath: the static program that starts functions which are programs of their own.
    ///   - readyNetworks: how many network namespaces are kept in stock.
    package init(
        tree: CgroupTree,
        events: EventWatcher,
        stateDirectory: String,
        initPath: String,
        bridgePath: String,
        readyNetworks: Int = 8
    ) throws(SandboxError) {
        self.tree = tree
        self.events = events
        self.workDirectory = "\(stateDirectory)/mnt"
        self.initPath = initPath
        self.bridgePath = bridgePath
        profile = try SeccompProfile()
        namespaces = NamespacePool(target: readyNetworks)
    }

    /// Starts a sandbox; blocks until its process 1 runs, or throws with nothing left behind.
    package func launch(_ spec: SandboxSpec) throws(SandboxError) -> Sandbox {
        let template = try namespace(of: spec.template)
        let group = try makeGroup(spec)
        do throws(SandboxError) {
            // Forgotten meanwhile, it is there for as long as it is used.
            return try withExtendedLifetime(template) { () throws(SandboxError) in
                try start(spec, in: group, template: template.raw)
            }
        } catch {
            try? group.remove()
            throw error
        }
    }

    /// Ends the launcher's thread and lets go of what is in stock. Sandboxes that still live die with it.
    package func shutdown() {
        thread.stop()
        namespaces.shutdown()
        templates.withLock { $0 = [:] }
    }

    /// Lets go of what was built for a root image that is gone. Sandboxes that run on it keep it until they end.
    package func forget(imageRoot: String) {
        templates.withLock { templates in templates = templates.filter { $0.key.imageRoot != imageRoot } }
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
            do throws(CgroupError) {
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
        let filters = profile.programs
        let launched: clinux_launched
        do throws(SandboxError) {
            launched = try thread.run { () throws(SandboxError) -> clinux_launched in
                let plan = LaunchPlan(
                    cgroup: group.directory,
                    mountNamespace: template,
                    networkNamespace: parts.network,
                    ipcNamespace: parts.ipc,
                    utsNamespace: parts.uts,
                    userNamespace: parts.slot.namespace,
                    codeMount: parts.code ?? -1,
                    layersMount: parts.layers ?? -1,
                    tmpMount: parts.tmp.mount,
                    controlMount: parts.control.mount,
                    standardInput: parts.null,
                    standardOutput: parts.outputWrite
                )
                return try plan.run(spec, filters: filters)
            }
        } catch {
            parts.closeBorrowed()
            close(parts.listener)
            close(parts.outputRead)
            namespaces.giveBack(parts.slot)
            throw error
        }
        parts.closeBorrowed()
        let (slot, namespaces) = (parts.slot, namespaces)
        let sandbox = Sandbox(
            id: spec.id,
            pid: launched.pid,
            pidfd: launched.pidfd,
            cgroup: group,
            tmp: parts.tmp,
            control: parts.control,
            listener: parts.listener,
            output: parts.outputRead,
            events: events
        ) { namespaces.giveBack(slot) }
        sandbox.watch()
        return sandbox
    }

    /// The descriptors that one launch needs.
    private struct Parts: Sendable {
        var network: CInt
        var listener: CInt
        var ipc: CInt
        var uts: CInt
        var slot: NamespacePool.Slot
        var code: CInt?
        var layers: CInt?
        var tmp: ScratchSpace
        var control: ControlDirectory
        var null: CInt
        var outputRead: CInt
        var outputWrite: CInt

        /// What the child has its own copies of by now.
        func closeBorrowed() {
            for fd in [network, ipc, uts, null, outputWrite] { close(fd) }
            for fd in [code, layers].compactMap(\.self) { close(fd) }
        }
    }

    private func gather(_ spec: SandboxSpec) throws(SandboxError) -> Parts {
        var taken: [CInt] = []
        do throws(SyscallError) {
            // In the daemon's own mount namespace: a copy of a mount can only be made from where one stands.
            let code = try spec.codeDirectory.map { directory throws(SyscallError) in try Self.detachedMount(directory)
            }
            if let code { taken.append(code) }
            let layers = try spec.layersDirectory.map { directory throws(SyscallError) in
                try Self.detachedMount(directory)
            }
            if let layers { taken.append(layers) }
            let tmp = try ScratchSpace(size: spec.tmpSize)
            let control = try ControlDirectory()
            control.announce(
                memory: spec.limits.memoryMax,
                cpu: spec.announcedCPU ?? spec.limits.cpu,
                tmp: spec.tmpSize
            )
            let null = try Descriptor.open("/dev/null", O_RDONLY).release()
            taken.append(null)
            let (read, write) = try Descriptor.pipe()
            taken += [read, write]
            let network = try namespaces.takeNetwork()
            taken += [network.namespace, network.listener]
            let identity = try namespaces.makeIdentity(hostName: spec.id)
            taken += [identity.ipc, identity.uts]
            let slot = try namespaces.takeSlot()
            // So that the function may open /dev/stdout again, by name.
            _ = fchown(write, slot.hostID, slot.hostID)
            return Parts(
                network: network.namespace,
                listener: network.listener,
                ipc: identity.ipc,
                uts: identity.uts,
                slot: slot,
                code: code,
                layers: layers,
                tmp: tmp,
                control: control,
                null: null,
                outputRead: read,
                outputWrite: write
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
