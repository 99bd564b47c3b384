// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Synchronization

/// One thread that waits for the kernel's own events: process ends, pressure triggers, pipes.
///
/// NIO's selectors know neither `EPOLLPRI` nor descriptors that somebody else owns. Level-triggered: a callback that
/// leaves its event pending is called again.
package final class EventWatcher: Sendable {
    /// What to wait for.
    package enum Interest: Sendable {
        /// Something to read, or the end.
        case readable
        /// `EPOLLPRI`: a pressure trigger fired, or a cgroup file changed.
        case priority
    }

    /// Names one watched descriptor.
    package struct Token: Sendable, Hashable {
        fileprivate let id: UInt64
    }

    /// A copy of the watched descriptor is kept: its owner may close it, and its number go to somebody else, at any time.
    private struct Watch {
        var fd: CInt
        var body: @Sendable () -> Void
    }

    private struct Watches {
        var all: [UInt64: Watch] = [:]
        var next: UInt64 = 1
        var isRunning = true
    }

    private let epoll: CInt
    private let wakeup: CInt
    private let watches = Mutex(Watches())
    /// Held while callbacks run, so that `cancel` can wait for one in progress.
    private let turn = Mutex(())
    private let thread = Mutex<UInt?>(nil)

    package init() throws(SyscallError) {
        epoll = try SyscallError.check("epoll_create", "", clinux_epoll_create())
        wakeup = try SyscallError.check("eventfd", "", clinux_eventfd())
        try register(wakeup, id: 0, .readable)
        try Thread.start(name: "kernel-events") { [self] in
            thread.withLock { $0 = UInt(pthread_self()) }
            loop()
        }
    }

    package func watch(
        _ fd: CInt,
        _ interest: Interest,
        _ body: @escaping @Sendable () -> Void
    ) throws(SyscallError) -> Token {
        let copy = try SyscallError.check("fcntl", "F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 0))
        let token = watches.withLock { watches in
            defer { watches.next += 1 }
            watches.all[watches.next] = Watch(fd: copy, body: body)
            return Token(id: watches.next)
        }
        do throws(SyscallError) {
            try register(copy, id: token.id, interest)
        } catch {
            forget(token)
            throw error
        }
        return token
    }

    /// Stops watching. Called on another thread, it returns when the callback is not running and will not run again.
    package func cancel(_ token: Token) {
        forget(token)
        if thread.withLock({ $0 }) != UInt(pthread_self()) { turn.withLock { _ in } }
    }

    /// Ends the thread; what is still watched is forgotten.
    package func shutdown() {
        watches.withLock { $0.isRunning = false }
        var one: UInt64 = 1
        unsafe write(wakeup, &one, 8)
    }

    private func forget(_ token: Token) {
        guard let watch = watches.withLock({ $0.all.removeValue(forKey: token.id) }) else { return }
        _ = clinux_epoll_remove(epoll, watch.fd)
        close(watch.fd)
    }

    private func register(_ fd: CInt, id: UInt64, _ interest: Interest) throws(SyscallError) {
        try SyscallError.check("epoll_ctl", "", clinux_epoll_add(epoll, fd, interest == .priority ? 1 : 0, id))
    }

    private func loop() {
        var ready = [UInt64](repeating: 0, count: 64)
        while watches.withLock({ $0.isRunning }) {
            let count = unsafe clinux_epoll_wait(epoll, &ready, CInt(ready.count))
            guard count > 0 else { continue }
            turn.withLock { _ in
                for id in ready[..<Int(count)] {
                    watches.withLock { $0.all[id]?.body }?()
                }
            }
        }
        for watch in watches.withLock({ $0.all.values.map { $0 } }) { close(watch.fd) }
        close(epoll)
        close(wakeup)
    }
}
