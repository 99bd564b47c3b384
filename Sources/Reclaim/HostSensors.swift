// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Policy
import Synchronization
import Units

/// The host's memory, read from the kernel's own files through descriptors that stay open.
package final class HostSensors: Sendable {
    private let meminfo = Gauge("/proc/meminfo")
    private let pressure = Gauge("/proc/pressure/memory")
    private let disks = Gauge("/proc/pressure/io")
    private let compressed: [Gauge]
    private let stallWindow = Mutex(StallWindow(.milliseconds(250)))

    package init() {
        let disks = (try? Directory.list("/sys/block")) ?? []
        compressed = disks.filter { $0.hasPrefix("zram") }.map { Gauge("/sys/block/\($0)/mm_stat") }
    }

    /// Whether swap is compressed memory.
    package var hasCompressedSwap: Bool { !compressed.isEmpty }

    /// One look; `nil` when `/proc/meminfo` cannot be read. About 20 µs.
    package func sample() -> HostSample? {
        guard let text = try? meminfo.read() else { return nil }
        let fields = Self.fields(text, ["MemAvailable", "SwapTotal", "SwapFree"])
        guard let available = fields[0], let total = fields[1], let free = fields[2] else { return nil }
        let (some, full, disk) = stalls()
        return HostSample(
            available: .kib(available),
            swapFree: .kib(free),
            swapTotal: .kib(total),
            compression: compression(),
            some: some,
            full: full,
            disk: disk
        )
    }

    /// Over how long stalls are averaged.
    package func setWindow(_ length: Duration) { stallWindow.withLock { $0.length = length } }

    /// Shares of the time of the window. `total` is exact at each read; the kernel's own averages lag two seconds.
    private func stalls() -> (some: Double, full: Double, disk: Double) {
        guard let text = try? pressure.read() else { return (0, 0, 0) }
        let (some, full) = Self.totals(text)
        let disk = (try? disks.read()).map { Self.totals($0).some } ?? 0
        let look = StallWindow.Look(some: some, full: full, disk: disk, at: MonotonicClock.now())
        return stallWindow.withLock { $0.shares(look) }
    }

    /// Microseconds, ever, in which some or all tasks waited for memory; `nil` without PSI.
    package var stalled: (some: Int64, full: Int64)? { (try? pressure.read()).map { Self.totals($0) } }

    static func totals(_ text: String) -> (some: Int64, full: Int64) {
        let totals = text.split(separator: "\n")
            .map { line in
                line.split(separator: "total=").last.flatMap { Int64($0) } ?? 0
            }
        return (totals.first ?? 0, totals.count > 1 ? totals[1] : 0)
    }

    /// RAM that compressed swap takes for each byte it holds; a third where nothing is known yet, 0 without any.
    package func compression() -> Double {
        guard !compressed.isEmpty else { return 0 }
        var (stored, used) = (0.0, 0.0)
        for gauge in compressed {
            // orig_data_size compr_data_size mem_used_total …
            let columns = ((try? gauge.read()) ?? "").split(separator: " ").compactMap { Double($0) }
            guard columns.count > 2 else { continue }
            stored += columns[0]
            used += columns[2]
        }
        return stored > 4_194_304 ? min(1, used / stored) : 1.0 / 3
    }

    /// Numbers of `Name:   123 kB` lines, in the order of `names`.
    static func fields(_ text: String, _ names: [String]) -> [Int64?] {
        names.map { name in
            guard let start = text.range(ofLine: name + ":") else { return nil }
            return Int64(text[start...].prefix { $0 != "\n" }.split(separator: " ").first ?? "")
        }
    }
}

extension String {
    /// Where the text after a line's beginning starts.
    fileprivate func range(ofLine beginning: String) -> Index? {
        for line in split(separator: "\n") where line.hasPrefix(beginning) {
            return index(line.startIndex, offsetBy: beginning.count)
        }
        return nil
    }
}

/// Asks the kernel to say at once when tasks of a group have waited for memory (Documentation/accounting/psi.rst).
///
/// One for the pool, not one for each sandbox: each costs the kernel a timer, and with privilege a thread.
package final class PressureTrigger: Sendable {
    private let descriptor: Descriptor
    private let events: EventWatcher
    private let token: EventWatcher.Token

    /// 50 ms of stall within a second; where that window takes a privilege, 100 ms within two.
    ///
    /// - Returns: `nil` on a kernel without pressure stall information.
    package init?(_ path: String, events: EventWatcher, _ body: @escaping @Sendable () -> Void) {
        for trigger in ["some 50000 1000000", "some 100000 2000000"] {
            guard let descriptor = try? Descriptor.open(path, O_RDWR | O_NONBLOCK) else { return nil }
            var text = trigger
            let written = text.withUTF8 { unsafe write(descriptor.raw, $0.baseAddress, $0.count) }
            guard written > 0, let token = try? events.watch(descriptor.raw, .priority, body) else { continue }
            self.descriptor = descriptor
            self.events = events
            self.token = token
            return
        }
        return nil
    }

    package func cancel() { events.cancel(token) }
}
