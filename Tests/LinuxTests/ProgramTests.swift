// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import Linux

@Suite("Programs that are run to their end")
struct ProgramTests {
    @Test("a program gets its input whole, and what it wrote to either stream comes back with its status")
    func inputAndOutput() throws {
        let input = String(repeating: "0123456789abcde\n", count: 20_000)  // more than a pipe holds
        let outcome = try Program.run("/bin/sh", ["-c", "wc -c; echo told >&2; exit 7"], input: input)
        #expect(outcome.status == 7)
        #expect(outcome.output.split(whereSeparator: \.isWhitespace) == ["320000", "told"])
    }

    @Test("a program that dies of a signal has failed")
    func signal() throws { #expect(try Program.run("/bin/sh", ["-c", "kill -9 $$"], input: "").status == 128 + 9) }

    @Test("is killed when it does not end, and the outcome says so")
    func endless() throws {
        let outcome = try Program.run(
            "/bin/sh",
            ["-c", "echo begun; exec sleep 1000"],
            input: "",
            patience: .milliseconds(300)
        )
        #expect(outcome.status == 128 + 9)
        #expect(
            outcome.output.hasPrefix("/bin/sh was killed: it had not ended after")
                && outcome.output.hasSuffix("begun\n")
        )
    }

    @Test("has none of our descriptors, those that are not close-on-exec either")
    func descriptors() throws {
        let leaky = dup(1)
        defer { close(leaky) }
        let outcome = try Program.run("/bin/sh", ["-c", "test -e /proc/$$/fd/\(leaky) || echo none"], input: "")
        #expect(outcome.output == "none\n")
    }

    @Test("a program that is not there is an error with its name")
    func missing() {
        #expect(throws: SyscallError("posix_spawn", "/nonexistent", 2)) {
            try Program.run("/nonexistent", [], input: "")
        }
    }
}
