// SPDX-License-Identifier: Apache-2.0

/// A page in mdoc(7), the language of manual pages, put together line by line.
package struct ManualText: Sendable {
    package private(set) var text = ""

    package init() {}

    /// A line as it is, such as `.Sh NAME`.
    package mutating func line(_ line: String) { text += line + "\n" }

    /// Prose in lines of at most 78 characters; each sentence begins one, which is how mdoc knows where sentences end.
    package mutating func prose(_ prose: String) {
        var previous: Character = " "
        var line = ""
        for word in prose.split(whereSeparator: \.isWhitespace) {
            if previous == "." && word.first?.isUppercase == true || line.utf8.count + word.utf8.count > 77 {
                self.line(Self.escaped(line))
                line = ""
            }
            line += line.isEmpty ? "\(word)" : " \(word)"
            previous = word.last ?? " "
        }
        if !line.isEmpty { self.line(Self.escaped(line)) }
    }

    /// Lines that keep their form.
    package mutating func example(_ lines: String) {
        line(".Bd -literal -offset indent")
        for part in lines.split(separator: "\n", omittingEmptySubsequences: false) { line(Self.escaped(String(part))) }
        line(".Ed")
    }

    package mutating func section(_ title: String) { line(".Sh \(title)") }

    /// A term with what it means and, in a paragraph of its own, its value's form.
    package mutating func item(_ term: String, _ meaning: String, _ form: String) {
        line(".It Ic \(Self.escaped(term))")
        prose(meaning)
        line(".Pp")
        prose(form)
    }

    /// A backslash would begin an escape, a full stop or an apostrophe at the start of a line a macro.
    static func escaped(_ text: String) -> String {
        var result = ""
        for character in text { result += character == "\\" ? "\\e" : String(character) }
        return result.hasPrefix(".") || result.hasPrefix("'") ? "\\&" + result : result
    }
}
