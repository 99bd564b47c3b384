// SPDX-License-Identifier: Apache-2.0
import FnProtocol

/// What the daemon said at one moment.
struct TopSnapshot: Codable {
    var sandboxes: [SandboxView]
    var limitsEnforced: Bool
    var ledger: LedgerView
    /// The wall clock's, as people read it.
    var time: String
}

/// What `fn top` shows and how: changed by keys and by what the daemon says, drawn by `TopScreen`.
struct TopState {
    enum Tab { case sandboxes, functions }

    /// What a key asks of whoever holds the terminal.
    enum Effect { case none, quit, interrupt, suspend }

    struct Sorting: Equatable {
        var title: String
        /// Against the column's usual order.
        var isReversed = false
    }

    private(set) var snapshot: TopSnapshot
    /// Why the daemon cannot be asked, since when.
    private(set) var lost: (why: String, since: String)?
    private(set) var tab = Tab.sandboxes
    private(set) var filter = ""
    private(set) var isTyping = false
    private(set) var isFrozen = false
    private(set) var isHelp = false
    /// The first row that is shown.
    private(set) var offset = 0
    private var sortings: [Tab: Sorting] = [:]

    init(_ snapshot: TopSnapshot) { self.snapshot = snapshot }

    var sorting: Sorting { sortings[tab] ?? Sorting(title: "CURRENT") }

    // MARK: What the daemon says

    mutating func received(_ new: TopSnapshot) {
        lost = nil
        if !isFrozen { snapshot = new }
    }

    mutating func lost(_ why: String, at time: String) { lost = (why, lost?.since ?? time) }

    // MARK: Keys

    mutating func press(_ key: Key) -> Effect {
        switch key {
        case .interrupt: return .interrupt
        case .suspend: return .suspend
        case .character("q") where !isTyping: return .quit
        default: isTyping ? type(key) : command(key)
        }
        return .none
    }

    private mutating func type(_ key: Key) {
        offset = 0
        switch key {
        case .character(let character): filter.append(character)
        case .backspace: filter = String(filter.dropLast())
        case .enter: isTyping = false
        case .escape: (filter, isTyping) = ("", false)
        default: break
        }
    }

    private mutating func command(_ key: Key) {
        switch key {
        case .character("s"): sort(by: 1)
        case .character("S"): sort(by: -1)
        case .character("r"): sortings[tab] = Sorting(title: sorting.title, isReversed: !sorting.isReversed)
        case .character("/"): (isTyping, isHelp) = (true, false)
        case .character(" "): isFrozen.toggle()
        case .character("?"): isHelp.toggle()
        case .escape: if isHelp { isHelp = false } else { filter = "" }
        case .tab: (tab, offset) = (tab == .sandboxes ? .functions : .sandboxes, 0)
        case .up, .character("k"): scroll(-1)
        case .down, .character("j"): scroll(1)
        case .pageUp: scroll(-10)
        case .pageDown: scroll(10)
        case .home: offset = 0
        case .end: scroll(rowCount)
        default: break
        }
    }

    private mutating func scroll(_ rows: Int) { offset = max(0, min(offset + rows, rowCount - 1)) }

    private mutating func sort(by step: Int) {
        let titles =
            tab == .sandboxes
            ? TopColumn<SandboxView>.all.filter { $0.gauge == nil }.map(\.title)
            : TopColumn<LedgerView.Function>.all.filter { $0.gauge == nil }.map(\.title)
        let index = (titles.firstIndex(of: sorting.title) ?? 0) + step + titles.count
        sortings[tab] = Sorting(title: titles[index % titles.count])
    }

    // MARK: Rows

    private var rowCount: Int { tab == .sandboxes ? sandboxes.count : functions.count }

    var sandboxes: [SandboxView] {
        sorted(snapshot.sandboxes, TopColumn.all, by: \.id) { matches([$0.id, $0.function, $0.state]) }
    }

    var functions: [LedgerView.Function] {
        sorted(snapshot.ledger.functions, TopColumn.all, by: \.name) { matches([$0.name]) }
    }

    private func matches(_ words: [String]) -> Bool {
        filter.isEmpty || words.contains { $0.lowercased().contains(filter.lowercased()) }
    }

    private func sorted<Row>(
        _ rows: [Row],
        _ columns: [TopColumn<Row>],
        by name: (Row) -> String,
        where isWanted: (Row) -> Bool
    ) -> [Row] {
        let byName = rows.filter(isWanted).sorted { name($0) < name($1) }
        guard let column = columns.first(where: { $0.title == sorting.title }) else { return byName }
        let isDown = column.isNumber != sorting.isReversed
        // Stable, so that equals stay in the order of their names from one second to the next.
        return byName.enumerated()
            .sorted { a, b in
                let (x, y) = (column.order(a.element), column.order(b.element))
                return x == y ? a.offset < b.offset : isDown ? x > y : x < y
            }
            .map(\.element)
    }
}
