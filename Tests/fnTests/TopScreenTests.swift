// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Testing

@testable import fn

@Suite("fn top")
struct TopScreenTests {
    private static let mib: Int64 = 1 << 20

    private static func sandbox(
        _ id: String,
        _ state: String,
        current: Int64,
        high: Int64? = nil,
        max: Int64,
        ageMs: Int64 = 9000
    ) -> SandboxView {
        var view = SandboxView(
            id: id,
            function: String(id.prefix { $0 != "-" }),
            state: state,
            pid: 7,
            startTime: 1,
            cgroup: "/g/\(id)",
            held: max,
            ageMs: ageMs,
            invocations: 2,
            limitsEnforced: true
        )
        (view.current, view.high, view.max, view.swap, view.pressureSome) = (current, high, max, 0, 0.04)
        (view.runtime, view.network) = ("python", "none")
        return view
    }

    private static var snapshot: TopSnapshot {
        var ledger = LedgerView(budget: 1024 * mib, promised: 256 * mib, free: 768 * mib, holders: [:])
        ledger.host = LedgerView.Host(
            tier: "green",
            available: 900 * mib,
            swap: (512 * mib, 1024 * mib),
            compression: 0.3,
            stalls: (0.12, 0)
        )
        var function = LedgerView.Function(name: "hello")
        (function.sandboxes, function.current, function.held) = (2, 47 * mib, 133 * mib)
        ledger.functions = [function, LedgerView.Function(name: "count")]
        return TopSnapshot(
            sandboxes: [
                sandbox("hello-1", "busy", current: 45 * mib, max: 128 * mib),
                sandbox("hello-2", "shrunk", current: 2 * mib, high: 3 * mib, max: 5 * mib, ageMs: 7_300_000),
                sandbox("count-1", "idle", current: 15 * mib, high: 64 * mib, max: 128 * mib, ageMs: 180_000),
            ],
            limitsEnforced: true,
            ledger: ledger,
            time: "12:03:04"
        )
    }

    private func lines(_ state: TopState, width: Int = 100, height: Int = 11, _ glyphs: Glyphs = .ascii) -> [String] {
        TopScreen(width: width, height: height, glyphs: glyphs).lines(state).map(\.text)
    }

    private func pressed(_ keys: String) -> TopState {
        var state = TopState(Self.snapshot)
        for key in Key.read(Array(keys.utf8)) { _ = state.press(key) }
        return state
    }

    /// The first word of each row of the table.
    private func names(_ state: TopState, width: Int = 100) -> [String] {
        lines(state, width: width).dropFirst(5).dropLast()
            .compactMap { $0.split(separator: " ").first.map { String($0) } }
    }

    @Test("a screen is header, table and keys, to the character")
    func golden() {
        let expected = [
            "Ebb  tier green  3 sandboxes: 1 busy, 1 idle, 1 shrunk                                      12:03:04",
            "budget  #####...............  256MiB of 1GiB promised, 768MiB free",
            "host    900MiB available, 512MiB of 1GiB swap free, PSI some 0.1% full 0.0%",
            "",
            "SANDBOX  FUNCTION  STATE   MEMORY           CURRENTv   HIGH     MAX  SWAP   PSI  AGE  CALLS  RUNTIME",
            "hello-1  hello     busy    #####..........     45MiB    max  128MiB    0B  0.0%   9s      2  python ",
            "count-1  count     idle    ##.....|.......     15MiB  64MiB  128MiB    0B  0.0%   3m      2  python ",
            "hello-2  hello     shrunk  #                    2MiB   3MiB    5MiB    0B  0.0%   2h      2  python ",
            "", "",
            "q quit  s sort (CURRENT)  r reverse  / filter  space freeze  tab functions  ? help",
        ]
        let shown = lines(pressed(""))
        for (line, wanted) in zip(shown, expected) { #expect(line == wanted) }
        #expect(shown.count == expected.count)
    }

    @Test(
        "no line is wider and no screen higher than the terminal, whatever its size",
        arguments: [1, 7, 20, 60, 80, 200]
    )
    func fits(size: Int) {
        for keys in ["", "?", "/x", "\t"] {
            let shown = lines(pressed(keys), width: size, height: size)
            #expect(shown.count == size)
            #expect(shown.allSatisfy { $0.count <= size })
        }
    }

    @Test("a narrow terminal loses the columns that matter least")
    func narrow() {
        let head = lines(pressed(""), width: 60)[4].split(separator: " ")
        #expect(head.prefix(5) == ["SANDBOX", "FUNCTION", "STATE", "MEMORY", "CURRENTv"])
        #expect(!head.contains("PSI") && !head.contains("NETWORK"))
    }

    @Test("s and S go through the columns, r turns the order, equals stay in the order of their names")
    func sorting() {
        #expect(names(pressed("")) == ["hello-1", "count-1", "hello-2"])
        #expect(names(pressed("r")) == ["hello-2", "count-1", "hello-1"])
        #expect(names(pressed("s")) == ["hello-1", "count-1", "hello-2"], "by high: none is more than any")
        #expect(names(pressed("SSS")) == ["count-1", "hello-1", "hello-2"], "by name")
        #expect(names(pressed("ss")) == ["count-1", "hello-1", "hello-2"], "by max")
    }

    @Test("a filter is typed, kept with Enter, and cleared with Esc; q is a letter while it is typed")
    func filtering() {
        #expect(names(pressed("/HELLO")) == ["hello-1", "hello-2"])
        #expect(names(pressed("/shrunk\r")) == ["hello-2"])
        #expect(names(pressed("/hellp\u{7F}o\r")) == ["hello-1", "hello-2"])
        #expect(names(pressed("/hello\u{1B}")).count == 3)
        #expect(names(pressed("/hello\r\u{1B}")).count == 3)
        #expect(lines(pressed("/q")).last == "filter: q_  (Enter, Esc)")
        #expect(lines(pressed("/zzz"))[5] == "Nothing matches 'zzz'.")
    }

    @Test("a frozen view stays, and goes on from the latest")
    func freezing() {
        var (state, later) = (pressed(" "), Self.snapshot)
        later.sandboxes.removeAll()
        later.time = "12:03:05"
        state.received(later)
        #expect(lines(state)[0].hasSuffix("frozen at 12:03:04"))
        #expect(names(state).count == 3)
        _ = state.press(.character(" "))
        state.received(later)
        #expect(lines(state)[5] == "No sandboxes: fn invoke NAME")
    }

    @Test("a daemon that went away is said so since when, over what was last known")
    func lost() {
        var state = pressed("")
        state.lost("refused", at: "12:03:09")
        state.lost("refused", at: "12:03:10")
        #expect(lines(state)[3] == "No answer since 12:03:09, trying again: refused")
        #expect(names(state).count == 3)
        state.received(Self.snapshot)
        #expect(lines(state)[3].isEmpty)
    }

    @Test("tab shows functions with what they hold")
    func functions() {
        let shown = lines(pressed("\t"))
        #expect(shown[4].hasPrefix("FUNCTION  SANDBOXES  MEMORY"))
        #expect(shown[5].hasPrefix("hello             2  ####"))
        #expect(lines(pressed("?"))[4].hasPrefix("q, Ctrl-C"))
    }

    @Test("q, Ctrl-C and Ctrl-Z ask for what they should")
    func effects() {
        var state = pressed("")
        #expect(state.press(.character("q")) == .quit)
        #expect(state.press(.interrupt) == .interrupt)
        #expect(state.press(.suspend) == .suspend)
        #expect(state.press(.character("x")) == .none)
    }

    @Test("rows that do not fit are scrolled to, and the last page is full")
    func scrolling() {
        #expect(lines(pressed("jjjj"), height: 8)[5].hasPrefix("count-1"))
        #expect(lines(pressed("G\u{1B}[F\u{1B}[A\u{1B}[A"), height: 8)[5].hasPrefix("hello-1"))
    }

    @Test("keys of terminals are read, whatever comes in one piece")
    func keys() {
        #expect(Key.read([0x1B]) == [.escape])
        #expect(
            Key.read(Array("\u{1B}[5~a\u{1B}OB\u{1B}[1;5Cé".utf8)) == [
                .pageUp, .character("a"), .down, .character("é"),
            ]
        )
        #expect(
            Key.read([0x03, 0x1A, 0x09, 0x0D, 0x08, 0x00, 0xC3]).dropLast() == [
                .interrupt, .suspend, .tab, .enter, .backspace,
            ]
        )
    }

    @Test("what is used little is still drawn, in parts of a cell where the terminal can")
    func gauges() {
        func bar(_ used: Int64, _ soft: Int64?, _ hard: Int64?, _ glyphs: Glyphs) -> String {
            Gauge(used: used, soft: soft, hard: hard).line(width: 8, scale: 800, glyphs: glyphs).text
        }
        #expect(bar(1, nil, 800, .unicode) == "▏·······")
        #expect(bar(150, 400, 600, .unicode) == "█▌··│·  ")
        #expect(bar(0, nil, nil, .unicode) == "        ")
        #expect(bar(900, 100, 800, .ascii) == "########")
        #expect(Gauge(used: 1, soft: nil, hard: nil).line(width: 8, scale: 0, glyphs: .ascii).text.isEmpty)
    }

    @Test("colour is only in what a terminal gets, and words of others cannot steer it")
    func escapes() {
        let line = StyledLine("a\u{1B}[2J\n", .red) + StyledLine("b")
        #expect(line.terminalText(colour: false) == "a [2J b")
        #expect(line.terminalText(colour: true) == "\u{1B}[31ma [2J \u{1B}[0mb")
    }

    @Test("without a terminal it is one page of plain tables")
    func page() {
        let text = TopPage(Self.snapshot).text
        #expect(text.hasPrefix("tier    green; 3 sandboxes: 1 busy, 1 idle, 1 shrunk\nbudget  256MiB of 1GiB promised"))
        #expect(
            text.contains(
                "\nSANDBOX  FUNCTION  STATE   CURRENT  HIGH   MAX     SWAP  PSI   AGE  CALLS  RUNTIME  NETWORK\nhello-1"
            )
        )
        #expect(text.contains("\n\nFUNCTION  SANDBOXES  CURRENT"))
    }
}
