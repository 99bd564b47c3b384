// SPDX-License-Identifier: Apache-2.0
import CCap
import CLinux
import Glibc
import Linux
import Units

/// Everything the child needs, in C's form: strings and tables that outlive the call, descriptors that are borrowed.
struct LaunchPlan: ~Copyable {
    /// Resource limits that are the same for all; only ever lowered, as the daemon may not be allowed to raise any.
    /// The numbers are the kernel's (include/uapi/asm-generic/resource.h), the same on x86-64 and arm64.
    static let resourceLimits: [(resource: Int32, limit: UInt64)] = [
        (4, 0),  // RLIMIT_CORE
        (7, 1024),  // RLIMIT_NOFILE
        (8, 64 << 10),  // RLIMIT_MEMLOCK, bytes
        (11, 1024),  // RLIMIT_SIGPENDING
        (12, 0),  // RLIMIT_MSGQUEUE, bytes
        (13, 0),  // RLIMIT_NICE
        (14, 0),  // RLIMIT_RTPRIO
    ]

    // Descriptors of one launch.
    var cgroup: CInt
    var mountNamespace: CInt
    var networkNamespace: CInt
    var ipcNamespace: CInt
    var utsNamespace: CInt
    var userNamespace: CInt
    /// Negative when it comes later, or the image is the code.
    var codeMount: CInt
    /// Negative when there are none.
    var layersMount: CInt
    /// Negative when the image's own `/etc/resolv.conf` stays.
    var resolverMount: CInt
    var tmpMount: CInt
    var controlMount: CInt
    var standards: StandardDescriptors
    /// Whether extensions have a pipe of their own.
    var hasExtensionOutput: Bool

    /// Runs the plan on the calling thread.
    func run(
        _ spec: SandboxSpec,
        filter: FilterBytes,
        landlock: Landlock?,
        ignoredSignals: UInt64
    ) throws(SandboxError) -> clinux_launched {
        let arguments = CStrings(["/.init"] + spec.arguments)
        let environment = CStrings(spec.environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" })
        let strings = CStrings([
            "/.init", "/var/task", String(spec.id.prefix(63)), spec.proc.options, spec.workingDirectory,
        ])
        let confinement = Confinement(spec.proc.masks, landlock)
        // RLIMIT_NPROC is counted for each host user, and each sandbox has its own: it holds where pids.max cannot.
        let processes = (resource: Int32(6), limit: UInt64(spec.limits.pids))
        let limits = (Self.resourceLimits + [processes]).map { clinux_rlimit(resource: $0.resource, limit: $0.limit) }
        var launched = clinux_launched()
        // The plan holds bare pointers into these: without this the optimiser may free them before the call.
        let result = withExtendedLifetime((arguments, environment, strings, confinement, filter)) {
            unsafe limits.withUnsafeBufferPointer { limits in
                var plan = unsafe clinux_plan()
                unsafe plan.cgroup = cgroup
                unsafe plan.mount_namespace = mountNamespace
                unsafe plan.network_namespace = networkNamespace
                unsafe plan.ipc_namespace = ipcNamespace
                unsafe plan.uts_namespace = utsNamespace
                unsafe plan.user_namespace = userNamespace
                unsafe plan.code_mount = codeMount
                unsafe plan.code_target = strings[1]
                unsafe plan.layers_mount = layersMount
                unsafe plan.resolver_mount = resolverMount
                unsafe plan.tmp_mount = tmpMount
                unsafe plan.control_mount = controlMount
                unsafe plan.working_directory = strings[4]
                unsafe plan.host_name = strings[2]
                unsafe plan.host_name_length = strings[2].map { unsafe strlen($0) } ?? 0
                unsafe plan.proc_options = strings[3]
                unsafe confinement.describe(&plan)
                unsafe plan.standard_input = standards.input
                unsafe plan.standard_output = standards.output
                unsafe plan.extension_output = hasExtensionOutput ? standards.extensions : -1
                unsafe plan.last_descriptor = standards.last
                unsafe plan.limits = limits.baseAddress
                unsafe plan.limit_count = limits.count
                unsafe plan.last_capability = cap_max_bits() - 1
                unsafe plan.user = NamespacePool.insideID
                unsafe plan.group = NamespacePool.insideID
                unsafe plan.ignored_signals = ignoredSignals
                unsafe plan.filter = unsafe filter.pointer
                unsafe plan.filter_length = filter.length
                unsafe plan.executable = strings[0]
                unsafe plan.arguments = arguments.pointer
                unsafe plan.environment = environment.pointer
                return unsafe clinux_launch(&plan, &launched)
            }
        }
        guard result == 0 else {
            let step = LaunchStep(rawValue: launched.step) ?? .clone
            throw .setup(step, SyscallError("\(step)", "", launched.error))
        }
        return launched
    }
}

/// Three descriptors with low numbers, kept for the launcher: what a child keeps of the daemon's table is what is not above
/// them. They are opened early, so that this is little.
struct StandardDescriptors: Sendable {
    let input: CInt
    let output: CInt
    let extensions: CInt
    var last: CInt { max(input, output, extensions) }

    init() throws(SyscallError) {
        let input = try Descriptor.open("/dev/null", O_RDONLY)
        let output = try Descriptor.open("/dev/null", O_WRONLY)
        let extensions = try Descriptor.open("/dev/null", O_WRONLY)
        self.input = input.release()
        self.output = output.release()
        self.extensions = extensions.release()
    }

    /// Puts what a sandbox prints to in place, for the launch that follows.
    func take(output descriptor: CInt, extensions other: CInt?) throws(SyscallError) {
        try SyscallError.check("dup3", "standard output", clinux_dup_over(descriptor, output))
        guard let other else { return }
        try SyscallError.check("dup3", "output of extensions", clinux_dup_over(other, extensions))
    }

    /// Nothing of the last launch is held open by it any more.
    func reset() { for fd in [output, extensions] { _ = clinux_dup_over(input, fd) } }

    func close() { for fd in [input, output, extensions] { Glibc.close(fd) } }
}

/// C strings and the array of pointers to them, ended by a null pointer.
@safe final class CStrings {
    // SAFETY: allocated here, freed in deinit, never written after init.
    let pointer: UnsafePointer<UnsafePointer<CChar>?>
    private let storage: UnsafeMutablePointer<UnsafePointer<CChar>?>
    private let count: Int

    init(_ strings: [String]) {
        count = strings.count
        unsafe storage = .allocate(capacity: count + 1)
        for (index, text) in strings.enumerated() { unsafe storage[index] = unsafe UnsafePointer(strdup(text)) }
        unsafe storage[count] = nil
        unsafe pointer = unsafe UnsafePointer(storage)
    }

    deinit {
        for index in 0..<count { unsafe free(UnsafeMutablePointer(mutating: storage[index])) }
        unsafe storage.deallocate()
    }

    subscript(index: Int) -> UnsafePointer<CChar>? { unsafe storage[index] }
}

/// A seccomp program at an address that stays.
@safe final class FilterBytes: @unchecked Sendable {
    // SAFETY: allocated here, freed in deinit, never written after init.
    let pointer: UnsafeRawPointer
    let length: UInt16

    init(_ bytes: [UInt8]) {
        length = UInt16(bytes.count / 8)
        let copy = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 8)
        unsafe copy.copyMemory(from: bytes, byteCount: bytes.count)
        unsafe pointer = UnsafeRawPointer(copy)
    }

    deinit { unsafe pointer.deallocate() }
}
