// SPDX-License-Identifier: Apache-2.0
import FnProtocol

/// A snapshot as plain text, for pipes and files: everything, without bars, as wide as it is.
struct TopPage {
    private let state: TopState

    init(_ snapshot: TopSnapshot) { state = TopState(snapshot) }

    var text: String {
        let (snapshot, ledger) = (state.snapshot, state.snapshot.ledger)
        var head = [
            "tier    \(ledger.host?.tier ?? "not measured"); \(TopScreen.counts(snapshot))",
            "budget  \(TopScreen.budget(ledger))", "host    \(TopScreen.host(ledger))",
        ]
        if !snapshot.limitsEnforced { head.append("Limits are not enforced on this host.") }
        let tables = [table(state.sandboxes, TopColumn.all), table(state.functions, TopColumn.all)]
        return ([head.joined(separator: "\n")] + tables.compactMap { $0 }).joined(separator: "\n\n")
    }

    private func table<Row>(_ rows: [Row], _ all: [TopColumn<Row>]) -> String? {
        guard !rows.isEmpty else { return nil }
        let columns = all.filter { $0.gauge == nil }
        var table = Table(header: columns.map(\.title))
        table.rows = rows.map { row in columns.map { $0.cell(row).text } }
        return table.text
    }
}
