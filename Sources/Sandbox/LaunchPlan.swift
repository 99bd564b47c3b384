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
    /// Negative when the image is the code.
    var codeMount: CInt
    /// Negative when there are none.
    var layersMount: CInt
    var tmpMount: CInt
    var controlMount: CInt
    var standardInput: CInt
    var standardOutput: CInt

    /// Runs the plan on the calling thread.
    func run(_ spec: SandboxSpec, filters: [[UInt8]]) throws(SandboxError) -> clinux_launched {
        let arguments = CStrings(["/.init"] + spec.arguments)
        let environment = CStrings(spec.environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" })
        let strings = CStrings(["/.init", "/var/task", spec.workingDirectory])
        // RLIMIT_NPROC is counted for each host user, and each sandbox has its own: it holds where pids.max cannot.
        let processes = (resource: Int32(6), limit: UInt64(spec.limits.pids))
        let limits = (Self.resourceLimits + [processes]).map { clinux_rlimit(resource: $0.resource, limit: $0.limit) }
        let programs = filters.map { FilterBytes($0) }
        let descriptions = unsafe programs.map {
            unsafe clinux_filter(instructions: $0.pointer, length: UInt16($0.count / 8))
        }
        var launched = clinux_launched()
        // The plan holds bare pointers into these: without this the optimiser may free them before the call.
        let result = withExtendedLifetime((arguments, environment, strings, programs)) {
            unsafe limits.withUnsafeBufferPointer { limits in
                unsafe descriptions.withUnsafeBufferPointer { filters in
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
                    unsafe plan.tmp_mount = tmpMount
                    unsafe plan.control_mount = controlMount
                    unsafe plan.working_directory = strings[2]
                    unsafe plan.standard_input = standardInput
                    unsafe plan.standard_output = standardOutput
                    unsafe plan.limits = limits.baseAddress
                    unsafe plan.limit_count = limits.count
                    unsafe plan.last_capability = cap_max_bits() - 1
                    unsafe plan.user = NamespacePool.insideID
                    unsafe plan.group = NamespacePool.insideID
                    unsafe plan.filters = filters.baseAddress
                    unsafe plan.filter_count = filters.count
                    unsafe plan.executable = strings[0]
                    unsafe plan.arguments = arguments.pointer
                    unsafe plan.environment = environment.pointer
                    return unsafe clinux_launch(&plan, &launched)
                }
            }
        }
        guard result == 0 else {
            let step = LaunchStep(rawValue: launched.step) ?? .clone
            throw .setup(step, SyscallError("\(step)", "", launched.error))
        }
        return launched
    }
}

/// C strings and the array of pointers to them, ended by a null pointer.
@safe private final class CStrings {
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
@safe private final class FilterBytes {
    // SAFETY: allocated here, freed in deinit, never written after init.
    let pointer: UnsafeRawPointer
    let count: Int

    init(_ bytes: [UInt8]) {
        count = bytes.count
        let copy = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 8)
        unsafe copy.copyMemory(from: bytes, byteCount: bytes.count)
        unsafe pointer = UnsafeRawPointer(copy)
    }

    deinit { unsafe pointer.deallocate() }
}
