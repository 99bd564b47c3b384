// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Units

struct Size: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Advise on memory from what calls took: what to set, and what that saves.",
        discussion: "fn size\nfn size hello-python"
    )
    @Argument(help: "The function; all of them without it.", completion: .functions) var name: String?
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        guard let name else {
            let answer = try daemon.get(SizeList.self, "/v1/sizes")
            return list.show(answer, names: answer.sizes.map(\.function)) { table(answer.sizes) }
        }
        let answer = try daemon.ofFunction(name, "GET", "/size")
        let size = try DaemonAddress.decode(SizeView.self, answer.body)
        list.show(size, names: [size.function]) { text(size) }
    }

    private func table(_ sizes: [SizeView]) -> String {
        var table = Table(header: ["FUNCTION", "CALLS", "P50", "P99", "HIGHEST", "MEMORY", "SAVES", "ADVICE"])
        table.rows = sizes.map { size in
            [
                size.function, String(size.calls), rounded(size.peakP50), rounded(size.peakP99),
                rounded(size.peakHighest), "\(Bytes(size.memory))", rounded(size.saving), advice(size),
            ]
        }
        return table.text
    }

    private func text(_ size: SizeView) -> String {
        var lines = ["function:  \(size.function)", "calls:     \(size.calls)", "memory:    \(Bytes(size.memory))"]
        if size.peakP50 != nil {
            lines.append(
                "peaks:     half of them up to \(rounded(size.peakP50)), 99 of 100 up to \(rounded(size.peakP99)), "
                    + "all up to \(rounded(size.peakHighest))"
            )
        }
        let saving = size.saving.map { "; saves \(Bytes($0).rounded) a sandbox" } ?? ""
        return (lines + ["advice:    \(advice(size))\(saving)"]).joined(separator: "\n")
    }

    private func rounded(_ bytes: Int64?) -> String { bytes.map { Bytes($0).rounded } ?? "-" }

    private func advice(_ size: SizeView) -> String {
        let update = size.suggestion.map { "fn update \(size.function) --memory \(Bytes($0))" } ?? ""
        return switch size.verdict {
        case "too-few-calls": "not enough calls yet: \(size.calls) of \(size.callsNeeded)"
        case "not-measured": "this host does not measure it"
        case "lower": update
        case "raise": "\(update) (calls come up to its limit)"
        default: "keep it"
        }
    }
}
