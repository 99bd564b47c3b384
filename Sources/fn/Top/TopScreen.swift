// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Units

/// Draws a state as lines for a terminal of a size: nothing else, so that tests can look at what people see.
struct TopScreen {
    var width: Int
    var height: Int
    var glyphs = Glyphs.unicode

    func lines(_ state: TopState) -> [StyledLine] {
        var lines = header(state)
        let room = max(0, height - lines.count - 1)
        lines += Array((state.isHelp ? Self.help : table(state, room)).prefix(room))
        lines += Array(repeating: StyledLine(""), count: max(0, height - 1 - lines.count))
        return (lines.prefix(max(0, height - 1)) + [footer(state)]).map { $0.cut(to: width) }
    }

    // MARK: Header

    private func header(_ state: TopState) -> [StyledLine] {
        let (snapshot, ledger) = (state.snapshot, state.snapshot.ledger)
        let clock =
            state.isFrozen ? StyledLine("frozen at \(snapshot.time)", .inverse) : StyledLine(snapshot.time, .dim)
        let title = StyledLine("Ebb", .bold) + Self.tier(ledger) + StyledLine("  \(Self.counts(snapshot))")
        let budget = Gauge(used: ledger.promised, hard: ledger.budget)
            .line(width: 20, scale: ledger.budget, glyphs: glyphs)
        return [
            title.cut(to: width - clock.width - 1).padded(to: width - clock.width) + clock,
            StyledLine("budget  ") + budget + StyledLine("  \(Self.budget(ledger))"),
            StyledLine("host    \(Self.host(ledger))"),
            notice(state),
        ]
    }

    private func notice(_ state: TopState) -> StyledLine {
        if let lost = state.lost { return StyledLine("No answer since \(lost.since), trying again: \(lost.why)", .red) }
        return state.snapshot.limitsEnforced
            ? StyledLine("") : StyledLine("Limits are not enforced on this host.", .yellow)
    }

    private static func tier(_ ledger: LedgerView) -> StyledLine {
        guard let tier = ledger.host?.tier else { return StyledLine("") }
        let style: StyledLine.Style = tier == "green" ? .green : tier == "red" ? .red : .yellow
        return StyledLine("  tier ") + StyledLine(tier, style)
    }

    static func counts(_ snapshot: TopSnapshot) -> String {
        let states = Dictionary(grouping: snapshot.sandboxes, by: \.state)
            .map { (word: $0.key, count: $0.value.count) }
            .sorted { ($1.count, $0.word) < ($0.count, $1.word) }
        let count = snapshot.sandboxes.count
        let parts = states.map { "\($0.count) \($0.word)" }.joined(separator: ", ")
        return "\(count) sandbox\(count == 1 ? "" : "es")" + (parts.isEmpty ? "" : ": \(parts)")
    }

    static func budget(_ ledger: LedgerView) -> String {
        "\(size(ledger.promised)) of \(size(ledger.budget)) promised, \(size(ledger.free)) free"
    }

    static func host(_ ledger: LedgerView) -> String {
        guard let host = ledger.host else { return "not measured" }
        let swap = host.swapTotal > 0 ? "\(size(host.swapFree)) of \(size(host.swapTotal)) swap free" : "no swap"
        func percent(_ value: Double) -> String { "\((value * 10).rounded() / 10)%" }
        return "\(size(host.available)) available, \(swap), PSI some \(percent(host.pressureSome)) "
            + "full \(percent(host.pressureFull))"
    }

    private static func size(_ bytes: Int64) -> String { Bytes(bytes).rounded }

    // MARK: Table

    private func table(_ state: TopState, _ room: Int) -> [StyledLine] {
        switch state.tab {
        case .sandboxes: table(state, state.sandboxes, TopColumn.all, room, none: "No sandboxes: fn invoke NAME")
        case .functions: table(state, state.functions, TopColumn.all, room, none: "No function has run yet.")
        }
    }

    private func table<Row>(
        _ state: TopState,
        _ rows: [Row],
        _ columns: [TopColumn<Row>],
        _ room: Int,
        none: String
    ) -> [StyledLine] {
        let layout = TopLayout(columns, rows, sorting: state.sorting, width: width, glyphs: glyphs)
        guard !rows.isEmpty else {
            let why = state.filter.isEmpty ? none : "Nothing matches '\(state.filter)'."
            return [layout.head, StyledLine(why, .dim)]
        }
        // The last page is a full one, whatever was scrolled to in a smaller terminal.
        let first = min(state.offset, max(0, rows.count - (room - 1)))
        return [layout.head] + rows.dropFirst(first).prefix(max(0, room - 1)).map(layout.line)
    }

    private func footer(_ state: TopState) -> StyledLine {
        if state.isTyping { return StyledLine("filter: ", .bold) + StyledLine("\(state.filter)_  (Enter, Esc)") }
        let other = state.tab == .sandboxes ? "functions" : "sandboxes"
        let filter =
            state.filter.isEmpty
            ? StyledLine("") : StyledLine("filter '\(state.filter)'", .bold) + StyledLine(", Esc clears it  ")
        let keys = "q quit  s sort (\(state.sorting.title))  r reverse  / filter  space freeze  tab \(other)  ? help"
        return filter + StyledLine(keys, .dim)
    }

    private static var help: [StyledLine] {
        [
            ("q, Ctrl-C", "quit"), ("s, S", "sort by the next or the previous column"), ("r", "reverse the order"),
            ("/", "show only what matches: a sandbox, function or state; Enter keeps it, Esc clears it"),
            ("space", "freeze what is shown; again to go on"), ("tab", "sandboxes or functions"),
            ("arrows, PgUp, PgDn, Home, End", "scroll"), ("?", "this help"), ("", ""),
            ("bar", "memory.current filled, memory.max dotted, memory.high marked; all bars have one scale"),
            ("RUNTIME, NETWORK", "what runs in it (image: a container image), and whether it may reach the internet"),
            ("PSI", "share of the last 10 s in which tasks waited for memory"),
        ]
        .map { StyledLine($0.0.padding(to: 31), .bold) + StyledLine($0.1) }
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
