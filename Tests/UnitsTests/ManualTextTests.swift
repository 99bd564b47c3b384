// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Units

@Suite("Manual pages")
struct ManualTextTests {
    @Test("each sentence begins a line, and nothing of the prose is taken for a macro")
    func prose() {
        var page = ManualText()
        page.prose("One such as e.g. this. Two \\ three.\n'four'")
        #expect(page.text == "One such as e.g. this.\nTwo \\e three. 'four'\n")
        page = ManualText()
        page.prose(".fnignore")
        page.example("'a'\n\n.b")
        #expect(page.text == "\\&.fnignore\n.Bd -literal -offset indent\n\\&'a'\n\n\\&.b\n.Ed\n")
    }
}
