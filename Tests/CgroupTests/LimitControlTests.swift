// SPDX-License-Identifier: Apache-2.0
import Linux
import Policy
import Testing
import Units

@testable import Cgroup
@testable import Reclaim

@Suite("The limits of one sandbox")
struct LimitControlTests {
    private func group(current: Bytes, anon: Bytes, file: Bytes) throws -> FakeCgroup {
        try FakeCgroup([
            "memory.max": "", "memory.high": "", "memory.low": "", "memory.reclaim": "", "cgroup.freeze": "",
            "cgroup.events": "populated 1\nfrozen 1\n", "memory.current": "\(current.count)\n",
            "memory.swap.current": "0\n", "memory.stat": "anon \(anon.count)\nfile \(file.count)\nshmem 0\n",
        ])
    }

    /// What the last write to `memory.reclaim` asked for: what a fake group holds stays the same, so the second ends it.
    private func asked(_ fake: borrowing FakeCgroup) throws -> (bytes: Int64, swappiness: String)? {
        let words = try fake.written("memory.reclaim").split(separator: " ")
        return words.count == 2 ? Int64(words[0]).map { ($0, String(words[1])) } : nil
    }

    private func shrink(
        _ fake: borrowing FakeCgroup,
        _ order: ShrinkOrder = ShrinkOrder(),
        host: HostSample? = nil,
        tuning: ReclaimTuning = ReclaimTuning()
    ) throws {
        let limits = LimitControl(try Cgroup(fake.path), max: .mib(512), cpu: nil, cpus: 2)
        _ = try limits.shrink(order, since: 0, before: nil, host: host, tuning: tuning) { 0 }
    }

    private func host(swapUsed: Double = 0, disk: Double = 0) -> HostSample {
        HostSample(available: .gib(1), swapFree: .mib(1000) * (1 - swapUsed), swapTotal: .mib(1000), disk: disk)
    }

    @Test("one step of a shrink asks for no more than the operator says, within 4 and 16 MiB")
    func step() throws {
        for (share, expected) in [(0.01, Bytes.mib(4)), (0.25, .mib(8)), (0.4, Bytes(13_421_772)), (1, .mib(16))] {
            let fake = try group(current: .mib(32), anon: .mib(30), file: .mib(2))
            try shrink(fake, tuning: ReclaimTuning(step: share))
            #expect(try asked(fake)?.bytes == expected.count, "\(share)")
        }
    }

    @Test("a shrink leaves what the operator's floor says, in memory and in memory.max")
    func floor() throws {
        let fake = try group(current: .mib(32), anon: .mib(30), file: .mib(2))
        try shrink(fake, tuning: ReclaimTuning(floor: .mib(30)))
        #expect(try asked(fake)?.bytes == Bytes.mib(2).count)
        let full = try group(current: .mib(32), anon: .mib(30), file: .mib(2))
        try shrink(full, tuning: ReclaimTuning(floor: .mib(64)))
        #expect(try full.written("memory.reclaim").isEmpty)
        #expect(try full.written("memory.max") == "\(Bytes.mib(64).count)")
    }

    @Test("nothing is swapped out while more of the swap is in use than the operator says")
    func swap() throws {
        for (used, stop, swaps) in [(0.7, 0.8, true), (0.85, 0.8, false), (0.85, 0.9, true), (0.1, 0, false)] {
            let fake = try group(current: .mib(32), anon: .mib(30), file: .mib(2))
            try shrink(fake, host: host(swapUsed: used), tuning: ReclaimTuning(swapStop: stop))
            #expect(try (asked(fake)?.swappiness == "swappiness=200") == swaps, "\(used) of it, \(stop)")
        }
    }

    @Test("file pages stay while tasks wait longer for disks than the operator says")
    func disks() throws {
        for (waits, stop, takes) in [(0.0, 0.5, true), (0.6, 0.5, false), (0.6, 0.7, true)] {
            let fake = try group(current: .mib(32), anon: .zero, file: .mib(20))
            try shrink(
                fake,
                ShrinkOrder(takesFiles: true),
                host: host(disk: waits),
                tuning: ReclaimTuning(diskStop: stop)
            )
            #expect(try (asked(fake)?.swappiness == "swappiness=0") == takes, "\(waits) of the time, \(stop)")
        }
    }

    @Test("a brake is written while a sandbox runs, is lifted before it is raised, and waits while it is frozen")
    func brake() throws {
        let fake = try group(current: .mib(10), anon: .mib(8), file: .mib(2))
        let limits = LimitControl(try Cgroup(fake.path), max: .mib(128), cpu: nil, cpus: 2)
        try limits.setBrake(.mib(64))
        #expect(try fake.written("memory.high") == "\(Bytes.mib(64).count)")
        try limits.setBrake(.mib(200))
        #expect(try fake.written("memory.high").hasPrefix("max"), "above memory.max it is none")
        try limits.setBrake(.mib(64))
        _ = try limits.shrink(ShrinkOrder(), since: limits.wakes, before: nil, host: nil, tuning: ReclaimTuning()) { 0 }
        try fake.set("memory.high", "")
        try limits.setBrake(.mib(32))
        #expect(try fake.written("memory.high").isEmpty)
        _ = try limits.wake(at: .mib(128), low: .zero, cpu: nil)
        #expect(try fake.written("memory.high") == "\(Bytes.mib(32).count)")
    }

    @Test("a freeze leaves every limit as it is, and a request that came first forbids it")
    func pause() throws {
        let fake = try group(current: .mib(10), anon: .mib(8), file: .mib(2))
        let limits = LimitControl(try Cgroup(fake.path), max: .mib(128), cpu: nil, cpus: 2)
        let before = limits.wakes
        _ = try limits.wake(at: .mib(128), low: .zero, cpu: nil)
        try limits.pause(since: before)
        #expect(!limits.isFrozen)
        try limits.pause(since: limits.wakes)
        #expect(try limits.isFrozen && fake.written("cgroup.freeze") == "1")
        #expect(try fake.written("memory.max").isEmpty && fake.written("memory.high").isEmpty)
        #expect(try limits.wake(at: .mib(128), low: .zero, cpu: nil).map(\.kind) == [.thaw])
    }

    @Test("stalls are shares of the operator's window, however often is looked")
    func window() {
        var window = StallWindow(.seconds(1))
        func look(_ some: Int64, at milliseconds: Int64) -> Double {
            window.shares(.init(some: some * 1000, full: 0, disk: some * 500, at: milliseconds * 1_000_000)).some
        }
        #expect(look(0, at: 1000) == 0)
        #expect(look(50, at: 1100) == 0.5, "nothing older is known")
        #expect(look(50, at: 2000) == 0.05)
        #expect(look(50, at: 2100) == 0, "that was before the window")
        window.length = .seconds(10)
        for _ in 0..<5 { _ = look(50, at: 2100) }
        #expect(abs(look(150, at: 3100) - 0.05) < 0.001, "a longer one begins with what was kept")
    }
}
