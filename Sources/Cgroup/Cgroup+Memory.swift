// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Synchronization
import Units

/// The memory controller (kernel: Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files").
extension Cgroup {
    /// The hard limit; `nil` is `max`. Written below usage it makes the kernel reclaim and then kill: see `LimitControl`.
    package func setMemoryMax(_ limit: Bytes?) throws(CgroupError) { try setMemory("memory.max", limit) }

    /// Above this the group is throttled and reclaimed; `nil` is `max`.
    package func setMemoryHigh(_ limit: Bytes?) throws(CgroupError) { try setMemory("memory.high", limit) }

    /// What global reclaim leaves alone while others have something to give.
    package func setMemoryLow(_ amount: Bytes) throws(CgroupError) { try setMemory("memory.low", amount) }

    /// How much may be swapped out; `nil` is `max`. The file is missing on kernels without swap support.
    package func setSwapMax(_ limit: Bytes?) throws(CgroupError) {
        guard KernelFile.exists("memory.swap.max", at: directory) else { return }
        try setMemory("memory.swap.max", limit)
    }

    /// Whether running out of memory ends the whole group rather than one process of it.
    package func setOOMGroup(_ isOn: Bool) throws(CgroupError) {
        try write(.memory, "memory.oom.group", isOn ? "1" : "0")
    }

    private func setMemory(_ file: String, _ limit: Bytes?) throws(CgroupError) {
        try write(.memory, file, limit.map { String($0.count) } ?? "max")
    }

    package func memoryMax() -> Bytes? { bytes("memory.max") }
    /// `memory.max` as it is written there: a number or `max`; `nil` when it cannot be read.
    package func memoryMaxText() -> String? {
        measure(.memory, "memory.max").map { String($0.dropLast(while: \.isNewline)) }
    }
    package func memoryHigh() -> Bytes? { bytes("memory.high") }
    package func memoryLow() -> Bytes? { bytes("memory.low") }
    package func memoryCurrent() -> Bytes? { bytes("memory.current") }
    package func swapCurrent() -> Bytes? { bytes("memory.swap.current") }

    /// One number in bytes, or `max`, which is `nil` here as "no limit".
    private func bytes(_ file: String) -> Bytes? {
        measure(.memory, file).flatMap { Int64($0.dropLast(while: \.isNewline)) }.map { Bytes($0) }
    }

    package func memoryStat() -> FlatKeyed? { measure(.memory, "memory.stat").map { FlatKeyed($0) } }

    /// What happened in this group itself; the file without `.local` counts the groups below as well.
    package func memoryEvents() -> MemoryEvents? {
        measure(.memory, "memory.events.local").map { MemoryEvents(FlatKeyed($0)) }
    }

    /// Takes up to `amount` back, now, on the caller's processor time.
    ///
    /// - Parameter swappiness: 0 takes file pages only, 200 anonymous ones first (Linux 6.11); ignored where the kernel
    ///   does not know it.
    /// - Returns: `false` when less than `amount` was to be had, which is a normal end (`EAGAIN`).
    @discardableResult
    package func reclaim(_ amount: Bytes, swappiness: Int? = nil) throws(CgroupError) -> Bool {
        guard controllers.contains(.memory), amount > .zero else { return true }
        do throws(CgroupError) {
            try write("memory.reclaim", "\(amount.count)" + (swappiness.map { " swappiness=\($0)" } ?? ""))
            return true
        } catch {
            guard case .io(let cause) = error else { throw error }
            if cause.errno == EINVAL, swappiness != nil { return try reclaim(amount) }
            guard cause.errno == EAGAIN || cause.errno == EINTR else { throw error }
            return false
        }
    }

    /// The highest usage since `resetMemoryPeak`, or of the group's life where the kernel cannot reset it.
    package func memoryPeak() -> Bytes? {
        guard controllers.contains(.memory) else { return nil }
        return peakFile.read() ?? bytes("memory.peak")
    }

    /// Starts a new peak for this daemon's reader (Linux 6.12: a write resets what the same descriptor reads).
    ///
    /// - Returns: whether the kernel can.
    package func resetMemoryPeak() -> Bool {
        controllers.contains(.memory) && peakFile.reset(at: directory)
    }
}

/// `memory.events.local`: how often limits were met.
package struct MemoryEvents: Sendable, Equatable {
    package let low: Int64
    package let high: Int64
    package let max: Int64
    package let oom: Int64
    package let oomKill: Int64
    package let oomGroupKill: Int64

    init(_ file: FlatKeyed) {
        low = file["low"] ?? 0
        high = file["high"] ?? 0
        max = file["max"] ?? 0
        oom = file["oom"] ?? 0
        oomKill = file["oom_kill"] ?? 0
        oomGroupKill = file["oom_group_kill"] ?? 0
    }
}

/// `memory.peak`, kept open: the reset of Linux 6.12 belongs to the descriptor.
final class PeakFile: Sendable {
    private enum State {
        case unopened
        case open(CInt)
        /// This kernel's peak is for life.
        case cannotReset
    }

    private let state = Mutex(State.unopened)

    deinit {
        if case .open(let fd) = state.withLock({ $0 }) { close(fd) }
    }

    func reset(at directory: CInt) -> Bool {
        state.withLock { state in
            if case .unopened = state {
                let fd = unsafe openat(directory, "memory.peak", O_RDWR | O_CLOEXEC)
                state = fd >= 0 ? .open(fd) : .cannotReset
            }
            guard case .open(let fd) = state else { return false }
            guard unsafe pwrite(fd, "r", 1, 0) < 0 else { return true }
            close(fd)
            state = .cannotReset
            return false
        }
    }

    func read() -> Bytes? {
        state.withLock { state in
            guard case .open(let fd) = state else { return nil }
            var buffer = [UInt8](repeating: 0, count: 32)
            let count = unsafe pread(fd, &buffer, buffer.count, 0)
            guard count > 1 else { return nil }
            return Int64(String(decoding: buffer[..<(count - 1)], as: UTF8.self)).map { Bytes($0) }
        }
    }
}

extension String {
    /// Without the characters at the end for which `condition` holds.
    func dropLast(while condition: (Character) -> Bool) -> Substring {
        var rest = self[...]
        while let last = rest.last, condition(last) { rest = rest.dropLast() }
        return rest
    }
}
