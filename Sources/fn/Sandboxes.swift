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
            sandbox.id, sandbox.function + (sandbox.version.map { ":\($0)" } ?? ""), sandbox.state,
            size(sandbox.current, "-"), size(sandbox.high, unlimited),
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
            [budget(ledger), holders(ledger), functions(ledger), flows(ledger)].compactMap { $0 }
                .joined(separator: "\n\n")
        }
    }

    private func size(_ bytes: Int64) -> String { Bytes(bytes).rounded }

    private func budget(_ ledger: LedgerView) -> String {
        let line = "\(size(ledger.promised)) of \(size(ledger.budget)) are promised, \(size(ledger.free)) are free"
        guard let host = ledger.host else { return line }
        let swap = host.swapTotal > 0 ? "\(size(host.swapFree)) of \(size(host.swapTotal)) swap free" : "no swap"
        return line + "\nhost: \(host.tier), \(size(host.available)) available, \(swap)"
    }

    private func holders(_ ledger: LedgerView) -> String? {
        guard !ledger.holders.isEmpty else { return nil }
        var table = Table(header: ["HOLDER", "HOLDS"])
        table.rows = ledger.holders.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.map { [$0.key, size($0.value)] }
        return table.text
    }

    private func functions(_ ledger: LedgerView) -> String? {
        guard !ledger.functions.isEmpty else { return nil }
        var table = Table(header: [
            "FUNCTION", "SANDBOXES", "HOLDS", "CURRENT", "SWAP", "RECLAIMED", "WAKES", "REFAULTS", "WAKE TIME", "DEPTH",
        ])
        table.rows = ledger.functions.map { function in
            [
                function.name, "\(function.sandboxes)", size(function.held), size(function.current),
                size(function.swap),
                size(function.reclaimed), "\(function.wakes)", "\(function.refaultedPages) pages",
                "\(function.wakePenaltyMs) ms", "\(Int(function.depth * 100))%",
            ]
        }
        return table.text
    }

    private func flows(_ ledger: LedgerView) -> String? {
        guard !ledger.flows.isEmpty else { return nil }
        var table = Table(header: ["FROM", "TO", "RECLAIMED"])
        table.rows = ledger.flows.map { [$0.from, $0.to ?? "(free)", size($0.bytes)] }
        return table.text
    }
}

struct Why: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell the decisions about a request, a sandbox or a function, with the numbers they were made from.",
        discussion: "fn why 8e0c1f5a-…      # a request id, as fn invoke prints it\nfn why hello-python"
    )
    @Argument(help: "A request id, a sandbox or a function.", completion: .functions) var id: String
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let answer = try daemon.get(DecisionList.self, "/v1/decisions?subject=\(PercentEncoder.encode(id))")
        guard !answer.decisions.isEmpty else {
            let hint = daemon.nearestFunction(to: id).map { "; did you mean '\($0)'?" } ?? ""
            throw Failure(
                .notFound,
                "fn: nothing is known of '\(id)': name a request id, a sandbox or a function; "
                    + "the latest 20000 decisions are kept\(hint)"
            )
        }
        list.show(answer, names: answer.decisions.map { String($0.seq) }) {
            answer.decisions.map(text).joined(separator: "\n")
        }
    }

    private func text(_ decision: DecisionView) -> String {
        let time = decision.time.dropFirst(11).dropLast()
        let subject = decision.sandbox ?? decision.function ?? "host"
        let numbers = decision.numbers.sorted { $0.key < $1.key }.map { "\(label($0.key)) \(value($0.key, $0.value))" }
        let line = "\(time)  \(decision.kind)  \(subject)  \(decision.reason)"
        return numbers.isEmpty ? line : "\(line)\n              \(numbers.joined(separator: ", "))"
    }

    /// `free_bytes` is "free".
    private func label(_ name: String) -> String {
        name.split(separator: "_").dropLast(hasUnit(name) ? 1 : 0).joined(separator: " ")
    }

    private func hasUnit(_ name: String) -> Bool {
        ["bytes", "ms", "us", "percent", "permille"].contains(String(name.split(separator: "_").last ?? ""))
    }

    private func value(_ name: String, _ number: Int64) -> String {
        switch name.split(separator: "_").last {
        case "bytes": Bytes(number).rounded
        case "ms": "\(number) ms"
        case "us": "\(number) us"
        case "percent": "\(number)%"
        case "permille": "\(Double(number) / 10)%"
        default: "\(number)"
        }
    }
}
