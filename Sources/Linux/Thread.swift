// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Synchronization

/// Threads of our own, for what belongs to a thread rather than a process: namespaces, death signals, priorities.
package enum Thread {
    private final class Box {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// Starts a thread that nobody joins. Throws `EAGAIN` where no more threads may be had (`pids.max`).
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) throws(SyscallError) {
        try Failpoint.fail("thread")
        var thread = pthread_t()
        let named = {
            unsafe clinux_name_thread(String(name.prefix(15)))
            body()
        }
        let box = unsafe Unmanaged.passRetained(Box(named))
        let result = unsafe pthread_create(
            &thread,
            nil,
            { pointer in
                guard let pointer = unsafe pointer else { return nil }
                unsafe Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body()
                return nil
            },
            box.toOpaque()
        )
        guard result == 0 else {
            unsafe box.release()
            throw SyscallError("pthread_create", name, result)
        }
        pthread_detach(thread)
    }

    /// Runs `body` on a thread of its own and waits for it: whatever it does to its namespaces ends with it.
    package static func run<Value: Sendable>(
        name: String,
        _ body: @escaping @Sendable () throws(SyscallError) -> Value
    ) throws(SyscallError) -> Value {
        let done = try SerialThread(name: name)
        defer { done.stop() }
        return try done.run(body)
    }

    /// Lowers the calling thread's share of the processor to about a tenth of others'.
    ///
    /// Not `SCHED_IDLE`: whoever waits for a lock that such a thread holds could wait for as long as the host is busy.
    package static func stepBack() {
        _ = clinux_background_thread()
    }
}

/// One long-lived thread that runs one piece of work at a time.
package final class SerialThread: Sendable {
    private struct Queue {
        var work: [@Sendable () -> Void] = []
        var isStopped = false
    }

    private let queue = Mutex(Queue())
    private let signal: UnsafeSemaphore

    /// - Parameter isVital: whether the process cannot do without it. Should the thread end, the process ends too.
    package init(name: String, isVital: Bool = false) throws(SyscallError) {
        signal = UnsafeSemaphore()
        let (queue, signal) = (self, signal)
        try Thread.start(name: name) {
            if isVital { queue.watchLife(name) }
            while true {
                signal.wait()
                let (next, isStopped) = queue.queue.withLock { queue in
                    (queue.work.isEmpty ? nil : queue.work.removeFirst(), queue.isStopped)
                }
                next?()
                if next == nil, isStopped { return }
            }
        }
    }

    /// On the thread itself: has another one wait for its end.
    private func watchLife(_ name: String) {
        // SAFETY: a life is never freed. As a number it may cross to the other thread.
        let life = unsafe UInt(bitPattern: clinux_life_of_this_thread())
        do throws(SyscallError) {
            guard life != 0 else { throw SyscallError("pthread_mutex_lock", name, errno) }
            try Thread.start(name: "\(name)-life") { [self] in
                unsafe clinux_life_wait(OpaquePointer(bitPattern: life))
                guard !queue.withLock({ $0.isStopped }) else { return }
                fatalError("the thread '\(name)' has ended, and what it has started with it")
            }
        } catch {
            fatalError("\(error)")
        }
    }

    /// Runs `body` on the thread and waits for its result.
    package func run<Value: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let result = ResultBox<Value, Failure>()
        let done = UnsafeSemaphore()
        queue.withLock { queue in
            queue.work.append {
                do throws(Failure) {
                    let value = try body()
                    result.set(.success(value))
                } catch {
                    result.set(.failure(error))
                }
                done.post()
            }
        }
        signal.post()
        done.wait()
        return try result.take()
    }

    /// Ends the thread when its work is done.
    package func stop() {
        queue.withLock { $0.isStopped = true }
        signal.post()
    }
}

/// Carries one result from one thread to another.
private final class ResultBox<Value: Sendable, Failure: Error>: Sendable {
    private let result = Mutex<Result<Value, Failure>?>(nil)

    func set(_ value: Result<Value, Failure>) { result.withLock { $0 = value } }

    func take() throws(Failure) -> Value {
        guard let result = result.withLock({ $0 }) else { preconditionFailure("taken before it was set") }
        return try result.get()
    }
}

/// A POSIX semaphore: `sem_wait` and `sem_post` may be called from any thread.
@safe private final class UnsafeSemaphore: @unchecked Sendable {
    // SAFETY: the semaphore lives at a stable address of its own and is only touched through sem_* calls.
    private let semaphore: UnsafeMutablePointer<sem_t>

    init() {
        unsafe semaphore = .allocate(capacity: 1)
        unsafe sem_init(semaphore, 0, 0)
    }

    deinit {
        unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }

    func wait() { while unsafe sem_wait(semaphore) != 0 {} }
    func post() { unsafe sem_post(semaphore) }
}
