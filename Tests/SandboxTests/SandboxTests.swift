// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Sandbox

@Suite("The sandbox's plan")
struct SandboxTests {
    @Test("the seccomp programs are built, whole, and small enough for the kernel")
    func seccomp() throws {
        let profile = try SeccompProfile()
        #expect(profile.programs.count == 2)
        for program in profile.programs {
            #expect(program.count % 8 == 0)
            #expect((1...4096).contains(program.count / 8), "BPF_MAXINSNS")
        }
    }

    @Test("no call is both allowed and refused, and none of the dangerous ones is allowed")
    func systemCalls() {
        let allowed = Set(SystemCalls.allowed)
        #expect(allowed.isDisjoint(with: SystemCalls.refused))
        #expect(allowed.count == SystemCalls.allowed.count, "one is listed twice")
        for name in [
            "clone3", "bpf", "ptrace", "io_uring_setup", "userfaultfd", "splice", "keyctl", "mount", "unshare", "setns",
            "socket", "clone",
        ] {
            #expect(!allowed.contains(name), "\(name)")
        }
    }

    @Test("resource limits only ever take away")
    func resourceLimits() {
        #expect(LaunchPlan.resourceLimits.map(\.resource) == [4, 7, 8, 11, 12, 13, 14])
        #expect(LaunchPlan.resourceLimits.allSatisfy { $0.limit <= 1 << 16 })
    }
}
