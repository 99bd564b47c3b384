// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A terminal in raw mode on its alternate screen. It is as it was when this ends, on whatever way.
struct FullScreen: ~Copyable {
    /// Where keys come from.
    let keyboard: CInt
    private let saved: termios
    private let colour: Bool

    /// `nil` where there is no terminal that can place text: output or input is none, or TERM says so.
    init?() {
        guard Console.isTerminal, !["dumb", nil].contains(Console.environment("TERM")) else { return nil }
        var current = termios()
        // Standard input may be something else; people's keys then still come from their terminal.
        let source = isatty(0) == 1 ? 0 : unsafe open("/dev/tty", O_RDONLY | O_CLOEXEC)
        guard source >= 0, unsafe tcgetattr(source, &current) == 0 else { return nil }
        (keyboard, saved, colour) = (source, current, Console.hasColour)
        enter()
    }

    deinit { leave() }

    /// The alternate screen, without a cursor (xterm's private modes 1049 and 25).
    private func enter() {
        var raw = saved
        unsafe cfmakeraw(&raw)
        unsafe tcsetattr(keyboard, TCSAFLUSH, &raw)
        Console.write(Array("\u{1B}[?1049h\u{1B}[?25l".utf8))
    }

    private func leave() {
        Console.write(Array("\u{1B}[?25h\u{1B}[?1049l".utf8))
        var saved = saved
        unsafe tcsetattr(keyboard, TCSAFLUSH, &saved)
    }

    /// Columns and lines, now.
    var size: (width: Int, height: Int) {
        var size = winsize()
        guard unsafe ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return (80, 24) }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// Writes over what is there, without clearing first: nothing flickers.
    func show(_ lines: [StyledLine]) {
        let text = lines.map { $0.terminalText(colour: colour) + "\u{1B}[K" }.joined(separator: "\r\n")
        Console.write(Array("\u{1B}[H\(text)\u{1B}[J".utf8))
    }

    /// What was typed; `nil` when the terminal is gone.
    func keys() -> [Key]? {
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = unsafe read(keyboard, &bytes, bytes.count)
        if count < 0, errno == EINTR { return [] }
        return count > 0 ? Key.read(Array(bytes[..<count])) : nil
    }

    /// Stops as Ctrl-Z stops any program, with the terminal as it was; comes back when it is continued.
    func suspend() {
        leave()
        kill(getpid(), SIGSTOP)
        enter()
    }
}
