// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Testing
import Units

@testable import Cgroup

/// A directory with the files of a cgroup: parsers and writers can be tested byte for byte, without a kernel.
struct FakeCgroup: ~Copyable {
    let path: String

    init(controllers: String = "cpu memory pids", _ files: [String: String] = [:]) throws {
        var template = Array("/tmp/fake-cgroup-XXXXXX".utf8CString)
        path = unsafe String(cString: mkdtemp(&template))
        try set("cgroup.controllers", controllers)
        for (name, text) in files { try set(name, text) }
    }

    deinit {
        for name in (try? Directory.list(path)) ?? [] { unsafe unlink("\(path)/\(name)") }
        unsafe rmdir(path)
    }

    func set(_ name: String, _ text: String) throws {
        close(unsafe open("\(path)/\(name)", O_CREAT | O_TRUNC | O_WRONLY, 0o644))
        try KernelFile.write("\(path)/\(name)", text)
    }

    /// What was written; a real file keeps the old tail when it is overwritten, so fixtures start empty.
    func written(_ name: String) throws -> String { try KernelFile.read("\(path)/\(name)") }
}

@Suite("A cgroup's files")
struct CgroupFileTests {
    @Test("limits are written in bytes, and no limit is written as max")
    func memoryLimits() throws {
        let fake = try FakeCgroup(["memory.max": "", "memory.high": "", "memory.oom.group": ""])
        let group = try Cgroup(fake.path)
        try group.setMemoryMax(.mib(64))
        try group.setMemoryHigh(nil)
        try group.setOOMGroup(true)
        #expect(try fake.written("memory.max") == "67108864")
        #expect(try fake.written("memory.high") == "max")
        #expect(try fake.written("memory.oom.group") == "1")
    }

    @Test("usage is read, and max reads as no limit")
    func memoryUsage() throws {
        let fake = try FakeCgroup(["memory.current": "41943040\n", "memory.max": "max\n", "memory.peak": "50331648\n"])
        let group = try Cgroup(fake.path)
        #expect(group.memoryCurrent() == .mib(40))
        #expect(group.memoryMax() == nil)
        #expect(group.memoryPeak() == .mib(48))
    }

    @Test("without a controller nothing is written and nothing is measured")
    func unenforced() throws {
        let fake = try FakeCgroup(controllers: "", ["memory.current": "1\n", "memory.max": "", "cpu.max": ""])
        let group = try Cgroup(fake.path)
        try group.setMemoryMax(.mib(1))
        try group.setCPUMax(.one)
        #expect(try fake.written("memory.max") == "")
        #expect(try fake.written("cpu.max") == "")
        #expect(group.memoryCurrent() == nil)
        #expect(group.memoryEvents() == nil)
    }

    @Test(
        "a CPU share is a quota in each period of 100 ms",
        arguments: [(1500, "150000 100000"), (250, "25000 100000")]
    )
    func cpuMax(millis: Int, text: String) throws {
        let fake = try FakeCgroup(["cpu.max": ""])
        let group = try Cgroup(fake.path)
        try group.setCPUMax(CPUQuota(millis: millis))
        #expect(try fake.written("cpu.max") == text)
        #expect(group.cpuMax() == CPUQuota(millis: millis))
    }

    @Test("no CPU limit is written as max, and a share too small for the kernel as its smallest")
    func cpuMaxEdges() throws {
        let fake = try FakeCgroup(["cpu.max": ""])
        try Cgroup(fake.path).setCPUMax(nil)
        #expect(try fake.written("cpu.max") == "max 100000")
        let small = try FakeCgroup(["cpu.max": ""])
        try Cgroup(small.path).setCPUMax(CPUQuota(millis: 1))
        #expect(try small.written("cpu.max") == "1000 100000")
    }

    @Test("events and stat files are read by key")
    func flatKeyed() throws {
        let fake = try FakeCgroup([
            "memory.events.local": "low 0\nhigh 3\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n",
            "memory.stat": "anon 4096\nfile 8192\nworkingset_refault_anon 7\n",
        ])
        let group = try Cgroup(fake.path)
        #expect(group.memoryEvents()?.oomKill == 2)
        #expect(group.memoryEvents()?.high == 3)
        #expect(group.memoryStat()?["workingset_refault_anon"] == 7)
        #expect(group.memoryStat()?["no_such_key"] == nil)
    }

    @Test("pressure is read from the kernel's two lines")
    func pressure() {
        let text =
            "some avg10=1.50 avg60=0.12 avg300=0.40 total=81534\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1200\n"
        let pressure = Pressure(text)
        #expect(pressure.some.avg10 == 1.5)
        #expect(pressure.some.totalMicroseconds == 81_534)
        #expect(pressure.full.totalMicroseconds == 1200)
    }

    @Test("a reclaim names the amount and the swappiness, and an unknown group says which file failed")
    func reclaim() throws {
        let fake = try FakeCgroup(["memory.reclaim": ""])
        #expect(try Cgroup(fake.path).reclaim(.mib(4), swappiness: 200))
        #expect(try fake.written("memory.reclaim") == "4194304 swappiness=200")
        #expect(throws: CgroupError.self) { try Cgroup("/tmp/no-such-cgroup") }
    }
}
