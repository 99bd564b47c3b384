// SPDX-License-Identifier: Apache-2.0
import CLinux
import Cgroup
import Glibc
import Linux
import Synchronization
import Units

/// One running sandbox: a confined process tree and the cgroup that is its identity.
package final class Sandbox: Sendable {
    private struct State {
        /// Its network namespace, until it is destroyed.
        var network: CInt?
        var listener: CInt?
        var output: CInt?
        var extensionOutput: CInt?
        var exit: ExitStatus?
        var onExit: (@Sendable (ExitStatus) -> Void)?
        var watch: EventWatcher.Token?
        var isDestroyed = false
    }

    package let id: String
    package let pid: Int32
    /// Clock ticks since boot (field 22 of `/proc/PID/stat`): with the pid it names the process for ever.
    package let startTime: UInt64
    package let cgroup: Cgroup
    /// `/tmp` and `/run/fn`, as seen from outside.
    package let tmp: ScratchSpace
    package let control: ControlDirectory
    /// Its address, where it has egress.
    package let address: IPv4Address?
    /// Process 1.
    let process: ProcessDescriptor
    private let events: EventWatcher
    private let recycle: @Sendable () -> Void
    private let state: Mutex<State>

    init(
        id: String,
        pid: Int32,
        pidfd: CInt,
        cgroup: Cgroup,
        tmp: ScratchSpace,
        control: ControlDirectory,
        network: CInt,
        listener: CInt,
        output: CInt,
        address: IPv4Address?,
        extensionOutput: CInt?,
        events: EventWatcher,
        recycle: @escaping @Sendable () -> Void
    ) {
        self.id = id
        self.pid = pid
        process = ProcessDescriptor(owning: pidfd)
        self.cgroup = cgroup
        self.tmp = tmp
        self.control = control
        self.address = address
        self.events = events
        self.recycle = recycle
        startTime = ProcessState(pid)?.startTime ?? 0
        state = Mutex(
            State(network: network, listener: listener, output: output, extensionOutput: extensionOutput)
        )
    }

    deinit {
        state.withLock { state in
            for fd in [state.network, state.listener, state.output, state.extensionOutput] { if let fd { close(fd) } }
        }
    }

    /// The socket that listens on 127.0.0.1:9001 inside the sandbox; the caller's from here on, and only once.
    package func takeRuntimeListener() -> CInt {
        state.withLock { state in
            defer { state.listener = nil }
            return state.listener ?? -1
        }
    }

    /// The read end of the pipe that standard output and error go to; the caller's from here on, and only once.
    package func takeOutput() -> CInt {
        state.withLock { state in
            defer { state.output = nil }
            return state.output ?? -1
        }
    }

    /// The read end of the pipe that extensions print to, where they have one; the caller's from here on, and only once.
    package func takeExtensionOutput() -> CInt? {
        state.withLock { state in
            defer { state.extensionOutput = nil }
            return state.extensionOutput
        }
    }

    /// Connects to a port that something inside listens on, at 127.0.0.1; blocks for as long as that takes, at most
    /// `timeoutMs`. Fails with `ESHUTDOWN` once it is destroyed.
    ///
    /// - Returns: a non-blocking socket, the caller's.
    package func connect(port: UInt16, timeoutMs: CInt) throws(SyscallError) -> CInt {
        // A copy, under the lock: the thread below must not enter whatever has the number of a descriptor that was
        // closed meanwhile. The namespace itself lives as long as the copy, whatever becomes of the processes in it.
        let copy = state.withLock { state in state.network.map { fcntl($0, F_DUPFD_CLOEXEC, 3) } ?? -1 }
        guard copy >= 0 else { throw SyscallError("connect", "sandbox \(id)", ESHUTDOWN) }
        let namespace = Descriptor(owning: copy)
        let raw = namespace.raw
        // A thread of its own, which ends where it went.
        let socket = try Thread.run(name: "into-sandbox") { () throws(SyscallError) -> CInt in
            let socket = clinux_connect_inside(raw, port, timeoutMs)
            return try SyscallError.check("connect", "127.0.0.1:\(port) in a sandbox", socket)
        }
        return withExtendedLifetime(namespace) { socket }
    }

    /// Asks the runtime to end, through process 1, which passes it on; asked again, the runtime is killed. Extensions
    /// live on.
    package func terminateRuntime() { process.signal(SIGTERM) }

    /// Calls `body` once, when process 1 has ended; at once when it has already. Else on the kernel event thread.
    package func onExit(_ body: @escaping @Sendable (ExitStatus) -> Void) {
        let status = state.withLock { state -> ExitStatus? in
            if state.exit == nil { state.onExit = body }
            return state.exit
        }
        if let status { body(status) }
    }

    /// Ends every process in it, at once; the exit is told as any other.
    package func kill() {
        guard (try? cgroup.kill()) == nil else { return }
        // Without a descriptor for its file: the end of process 1 is the end of all in its pid namespace.
        process.signal(SIGKILL)
    }

    /// Sets how many processes and threads it may have, now and of all that run in it.
    package func setProcessLimit(_ limit: Int) throws(CgroupError) {
        try cgroup.setPidsMax(limit)
        // RLIMIT_NPROC is each process's own, inherited: those are looked for again that were forked of one which had
        // the old. Not for ever: who forks faster than that meets `pids.max`.
        var told: Set<Int32> = []
        for _ in 0..<8 {
            let untold = Set(try cgroup.processes()).subtracting(told)
            guard !untold.isEmpty else { return }
            for process in untold { _ = clinux_limit_processes(process, UInt64(limit)) }
            told.formUnion(untold)
        }
    }

    /// Ends it and waits until nothing of it is left: no process, no cgroup. Blocking; may be called again.
    ///
    /// - Parameter patience: for processes that wait inside the kernel, which no signal reaches.
    package func destroy(patience: Duration = .seconds(10)) throws(SandboxError) {
        do throws(CgroupError) {
            try cgroup.kill()
        } catch {
            guard error.isGone else { throw .limits(error) }
        }
        guard cgroup.waitEmpty(timeout: patience) else {
            throw .leftover("processes have not ended within \(patience) of cgroup.kill")
        }
        while state.withLock({ $0.exit == nil }) { usleep(200) }  // the event thread reaps within microseconds
        do throws(CgroupError) { try cgroup.remove(patience: min(patience, .seconds(5))) } catch {
            throw .limits(error)
        }
        let isFirst = state.withLock { state in
            defer { state.isDestroyed = true }
            return !state.isDestroyed
        }
        guard isFirst else { return }
        let network = state.withLock { state in
            defer { state.network = nil }
            return state.network
        }
        if let network { close(network) }
        recycle()
    }

    /// Begins to wait for the end of process 1. Where that cannot be had (no descriptor left), it is ended.
    func watch() throws(SyscallError) {
        do throws(SyscallError) {
            // Inside the lock: a process that has ended already calls back before this returns, and must find its token.
            try state.withLock { state throws(SyscallError) in
                state.watch = try events.watch(process.descriptor.raw, .readable) { [self] in ended() }
            }
        } catch {
            kill()
            _ = try? process.reap()
            _ = cgroup.waitEmpty(timeout: .seconds(5))
            recycle()
            throw error
        }
    }

    private func ended() {
        guard state.withLock({ $0.exit == nil }) else { return }
        let status: ExitStatus
        do throws(SyscallError) { status = try process.reap().asSeenThroughInit } catch { status = .signaled(SIGKILL) }
        let (token, body) = state.withLock { state in
            defer {
                state.exit = status
                state.onExit = nil
                state.watch = nil
            }
            return (state.watch, state.onExit)
        }
        if let token { events.cancel(token) }
        body?(status)
    }
}

extension ExitStatus {
    /// Process 1 ends with 128 + N when signal N killed the runtime (see `Sources/Init/init.c`).
    package var asSeenThroughInit: ExitStatus {
        if case .exited(let code) = self, code > 128, code < 128 + 65 { .signaled(code - 128) } else { self }
    }
}
