// SPDX-License-Identifier: Apache-2.0

/// One line of a screen: text in styles, of a width that can be counted.
///
/// Each character is taken for one column, which holds for our names, for numbers and for block characters.
struct StyledLine: Equatable {
    /// The parameter of SGR (ECMA-48, 8.3.117).
    enum Style: Int {
        case plain = 0
        case bold = 1
        case dim = 2
        case inverse = 7
        case red = 31
        case green = 32
        case yellow = 33
        case cyan = 36
    }

    private struct Span: Equatable {
        var text: String
        var style: Style
    }

    private var spans: [Span]

    /// Control characters, which somebody else's words may hold, become spaces.
    init(_ text: String, _ style: Style = .plain) {
        let harmless = String(text.map { $0.unicodeScalars.contains { $0.value < 32 || $0.value == 127 } ? " " : $0 })
        spans = harmless.isEmpty ? [] : [Span(text: harmless, style: style)]
    }

    var width: Int { spans.reduce(0) { $0 + $1.text.count } }
    var text: String { spans.map(\.text).joined() }

    static func + (a: StyledLine, b: StyledLine) -> StyledLine {
        var sum = a
        sum.spans += b.spans
        return sum
    }

    static func spaces(_ count: Int) -> StyledLine { StyledLine(String(repeating: " ", count: max(0, count))) }

    func cut(to width: Int) -> StyledLine {
        var (result, room) = (StyledLine(""), width)
        for span in spans where room > 0 {
            result.spans.append(Span(text: String(span.text.prefix(room)), style: span.style))
            room -= span.text.count
        }
        return result
    }

    func padded(to width: Int, right: Bool = false) -> StyledLine {
        let gap = Self.spaces(width - self.width)
        return right ? gap + self : self + gap
    }

    /// All of it in one style.
    func styled(_ style: Style) -> StyledLine { StyledLine(text, style) }

    func terminalText(colour: Bool) -> String {
        guard colour else { return text }
        return spans.map { $0.style == .plain ? $0.text : "\u{1B}[\($0.style.rawValue)m\($0.text)\u{1B}[0m" }.joined()
    }
}
