// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Watch sandboxes and functions live; one plain snapshot where the output is no terminal.",
        discussion: """
            fn top
            fn top | head
            Keys: q quits, s sorts, r reverses, / filters, space freezes, tab switches, ? tells all.
            """
    )
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        // The first answer has to come: who never had one is told so, and why.
        let first = try TopFeed.snapshot { try daemon.call("GET", $0).body }
        guard list.isTable else { return show(first) }
        try Signals.hold([SIGWINCH, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP])
        guard let end = try watch(first) else { return show(first) }
        if case .signal(let number) = end { Signals.die(of: number) }
    }

    private enum End {
        case quit
        case signal(CInt)
    }

    /// Until somebody ends it; `nil` without a terminal. The terminal is as it was when this returns.
    private func watch(_ first: TopSnapshot) throws -> End? {
        let feed = try TopFeed()
        let client = try daemon.client()
        guard let screen = FullScreen() else { return nil }
        try feed.start(client)
        var state = TopState(first)
        while true {
            draw(state, on: screen)
            let (ready, signals) = Signals.wait(for: [screen.keyboard, feed.descriptor])
            for number in signals {
                switch number {
                case SIGWINCH: break
                case SIGTSTP: screen.suspend()
                default: return .signal(number)
                }
            }
            if ready.contains(feed.descriptor) { hear(feed, &state) }
            guard ready.contains(screen.keyboard) else { continue }
            guard let keys = screen.keys() else { return .signal(SIGHUP) }
            for key in keys {
                switch state.press(key) {
                case .none: break
                case .quit: return .quit
                case .interrupt: return .signal(SIGINT)
                case .suspend: screen.suspend()
                }
            }
        }
    }

    private func hear(_ feed: TopFeed, _ state: inout TopState) {
        switch feed.take() {
        case .snapshot(let snapshot): state.received(snapshot)
        case .lost(let why, let time): state.lost(why, at: time)
        case nil: break
        }
    }

    private func draw(_ state: TopState, on screen: borrowing FullScreen) {
        let size = screen.size
        screen.show(TopScreen(width: size.width, height: size.height, glyphs: Console.glyphs).lines(state))
    }

    // MARK: Without a terminal

    private func show(_ snapshot: TopSnapshot) {
        list.show(snapshot, names: snapshot.sandboxes.map(\.id)) { TopPage(snapshot).text }
    }
}

extension Console {
    /// What the locale's character set can show.
    static var glyphs: Glyphs {
        let locale = environment("LC_ALL") ?? environment("LC_CTYPE") ?? environment("LANG") ?? ""
        let name = locale.uppercased()
        return name.contains("UTF-8") || name.contains("UTF8") ? .unicode : .ascii
    }
}
