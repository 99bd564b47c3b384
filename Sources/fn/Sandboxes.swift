// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol
import Units

struct Sandboxes: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List sandboxes with what the kernel says of them now.")
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let answer = try daemon.get(SandboxList.self, "/v1/sandboxes")
        list.show(answer, names: answer.sandboxes.map(\.id)) {
            var table = Table(header: [
                "SANDBOX", "FUNCTION", "STATE", "CURRENT", "HIGH", "MAX", "SWAP", "PSI", "AGE", "PENDING",
            ])
            table.rows = answer.sandboxes.map(row)
            let note = answer.limitsEnforced ? "" : "\nLimits are not enforced on this host."
            return table.text + note
        }
    }

    private func row(_ sandbox: SandboxView) -> [String] {
        func size(_ bytes: Int64?, _ none: String) -> String { bytes.map { Bytes($0).rounded } ?? none }
        let unlimited = sandbox.limitsEnforced ? "max" : "(not enforced)"
        return [
            sandbox.id, sandbox.function, sandbox.state, size(sandbox.current, "-"), size(sandbox.high, unlimited),
            size(sandbox.max, unlimited), size(sandbox.swap, "-"), sandbox.pressureSome.map { "\($0)%" } ?? "-",
            "\(sandbox.ageMs / 1000)s", size(sandbox.pending, "-"),
        ]
    }
}

struct Memory: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mem",
        abstract: "Show the ledger: the memory budget and who holds what of it."
    )
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let ledger = try daemon.get(LedgerView.self, "/v1/ledger")
        list.show(ledger, names: ledger.holders.keys.sorted()) {
            var table = Table(header: ["HOLDER", "HOLDS"])
            table.rows = ledger.holders.sorted { $0.value > $1.value }.map { [$0.key, Bytes($0.value).rounded] }
            table.rows.append(["promised", Bytes(ledger.promised).rounded])
            table.rows.append(["free", Bytes(ledger.free).rounded])
            table.rows.append(["budget", Bytes(ledger.budget).rounded])
            return table.text
        }
    }
}
