// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("The ledger")
struct LedgerTests {
    @Test("promises what is free, and refuses what is not with the numbers")
    func promises() throws {
        var ledger = Ledger<String>(budget: .mib(100))
        try ledger.hold(.mib(60), for: "a")
        #expect(ledger.free == .mib(40))
        #expect(throws: Ledger<String>.Shortfall(wanted: .mib(50), free: .mib(40))) {
            try ledger.hold(.mib(50), for: "b")
        }
        try ledger.hold(.mib(40), for: "b")
        #expect(ledger.free == .zero)
    }

    @Test("a promise can be made smaller at any time, and larger only by what is free")
    func resizing() throws {
        var ledger = Ledger<String>(budget: .mib(100))
        try ledger.hold(.mib(90), for: "a")
        ledger.budget = .mib(50)
        try ledger.hold(.mib(80), for: "a")
        #expect(throws: Ledger<String>.Shortfall.self) { try ledger.hold(.mib(81), for: "a") }
        #expect(ledger.release("a") == .mib(80))
        #expect(ledger.free == .mib(50))
        #expect(ledger.release("a") == .zero)
    }

    @Test("slack is never less than 4 MiB and grows with what is held and with the CPUs")
    func slack() {
        #expect(Slack.above(.mib(1), cpus: 2) == .mib(4))
        #expect(Slack.above(.mib(100), cpus: 2) == .mib(10))
        #expect(Slack.above(.zero, cpus: 64) == .mib(32))
        #expect(Slack.pageAligned(Bytes(4097)) == Bytes(8192))
    }
}
