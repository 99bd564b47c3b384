// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Sandbox

@Suite("The sandbox's plan")
struct SandboxTests {
    @Test("resource limits only ever take away")
    func resourceLimits() {
        #expect(LaunchPlan.resourceLimits.map(\.resource) == [4, 7, 8, 11, 12, 13, 14])
        #expect(LaunchPlan.resourceLimits.allSatisfy { $0.limit <= 1 << 16 })
    }

    @Test("what is covered below /proc is named once, by a path without links, and is moby's list and more")
    func masks() {
        let paths = MaskedPath.all.map(\.path)
        #expect(Set(paths).count == paths.count)
        #expect(paths.allSatisfy { !$0.hasPrefix("/") && !$0.contains("..") })
        let moby = [
            "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list",
        ]
        #expect(Set(paths).isSuperset(of: moby + ["timer_stats"]))
        let readOnly = MaskedPath.all.filter { $0.cover == .readOnly }.map(\.path)
        #expect(readOnly == ["bus", "fs", "irq", "sys", "sysrq-trigger"])
        #expect(ProcView.minimal.masks.isEmpty && ProcView.minimal.options.contains("subset=pid"))
        #expect([ProcView.minimal, .masked].allSatisfy { $0.options.contains("hidepid=invisible") })
    }

    @Test("landlock asks a kernel for nothing that it does not know", arguments: 1...9)
    func landlock(version: Int) throws {
        guard version >= Landlock.oldest else {
            #expect(Landlock(version: version) == nil)
            return
        }
        let landlock = try #require(Landlock(version: version))
        // The highest right of each version (include/uapi/linux/landlock.h), and scopes since the sixth.
        let highest = [2: 13, 3: 14, 4: 14, 5: 15][version] ?? 15
        #expect(landlock.handled < 1 << (highest + 1))
        #expect((landlock.scoped != 0) == (version >= 6))
        #expect(landlock.handled & 0b1101 == 0, "reading, listing and executing are not its matter")
        #expect(landlock.rules.allSatisfy { $0.allowed & ~landlock.handled == 0 }, "EINVAL otherwise")
        #expect(landlock.rules.map(\.path) == ["/tmp", "/dev"])
        #expect(landlock.rules.allSatisfy { $0.allowed & (1 << 6 | 1 << 11) == 0 }, "devices are made nowhere")
    }

    @Test("a kernel without landlock is no error", arguments: [-1, 0])
    func noLandlock(version: Int) {
        #expect(Landlock(version: version) == nil)
    }
}
