// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// Another program, run to its end with a text on its standard input.
package enum Program {
    /// What became of it: 0 is success.
    package struct Outcome: Sendable {
        package var status: Int32
        /// What it wrote, to standard output and error together.
        package var output: String
    }

    /// Where a program is that belongs to the system: daemons are often started without `sbin` in their `PATH`.
    package static func find(_ name: String) -> String? {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map { "\($0)/\(name)" }
            .first { unsafe access($0, X_OK) == 0 }
    }

    /// Runs it in the calling thread's namespaces, with no environment but `PATH`; waits for its end.
    ///
    /// Input and output are files in memory: no pipe can fill up and hold both of us.
    ///
    /// - Parameter patience: how long it may take; then it is killed, and the outcome is that of a killed program.
    package static func run(
        _ path: String,
        _ arguments: [String],
        input: String,
        patience: Duration = .seconds(30)
    ) throws(SyscallError) -> Outcome {
        let stdin = Descriptor(owning: try SyscallError.check("memfd_create", "", unsafe clinux_memfd("input")))
        let stdout = Descriptor(owning: try SyscallError.check("memfd_create", "", unsafe clinux_memfd("output")))
        var text = input
        let written = text.withUTF8 { unsafe pwrite(stdin.raw, $0.baseAddress, $0.count, 0) }
        guard written == text.utf8.count else { throw SyscallError("write", "input of \(path)", errno) }
        let pid = try spawn(path, arguments, stdin.raw, stdout.raw)
        let process = ProcessDescriptor(owning: clinux_open_pidfd(pid))
        let isOver = hasEnded(process, within: patience)
        if !isOver { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw SyscallError("waitpid", path, errno) }
        }
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let count = unsafe pread(stdout.raw, &bytes, bytes.count, 0)
        return Outcome(
            status: status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F,
            output: (isOver ? "" : "\(path) was killed: it had not ended after \(patience)\n")
                + String(decoding: bytes[..<max(0, count)], as: UTF8.self)
        )
    }

    /// Without a descriptor for the process (none is left) there is nothing to wait on, and its end is waited for.
    private static func hasEnded(_ process: borrowing ProcessDescriptor, within patience: Duration) -> Bool {
        guard process.descriptor.raw >= 0 else { return true }
        let deadline = ContinuousClock.now + patience
        while true {
            var ended = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
            let left = max(.zero, ContinuousClock.now.duration(to: deadline))
            let count = unsafe poll(&ended, 1, CInt(clamping: left.components.seconds * 1000 + 1))
            if count > 0 { return true }
            if count == 0, ContinuousClock.now >= deadline { return false }
        }
    }

    private static func spawn(
        _ path: String,
        _ arguments: [String],
        _ stdin: CInt,
        _ stdout: CInt
    ) throws(SyscallError) -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        for (from, to) in [(stdin, 0), (stdout, 1), (stdout, 2)] as [(CInt, CInt)] {
            unsafe posix_spawn_file_actions_adddup2(&actions, from, to)
        }
        // NIO's sockets are not close-on-exec: one that outlived the daemon would hold its ports.
        _ = unsafe clinux_spawn_close_from(&actions, 3)
        // The daemon blocks and ignores signals that another program wants.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        unsafe sigemptyset(&none)
        unsafe sigfillset(&all)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setsigdefault(&attributes, &all)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var words = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
        var environment = unsafe [unsafe strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
        defer {
            for index in unsafe words.indices { unsafe free(words[index]) }
            for index in unsafe environment.indices { unsafe free(environment[index]) }
        }
        var pid: pid_t = 0
        let result = unsafe posix_spawn(&pid, path, &actions, &attributes, &words, &environment)
        guard result == 0 else { throw SyscallError("posix_spawn", path, result) }
        return pid
    }
}
