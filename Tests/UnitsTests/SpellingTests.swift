// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Units

@Suite("Spelling")
struct SpellingTests {
    @Test("the word that was probably meant is found")
    func near() {
        #expect(Spelling.nearest("memmory", among: ["memory", "timeout"]) == "memory")
        #expect(Spelling.nearest("htp", among: ["http", "host"]) == "http")
        #expect(Spelling.nearest("failin", among: ["failing", "falling"]) == "failing")
    }

    @Test("a word that is like none is not guessed at", arguments: ["", "x", "completely", "zzzzzz"])
    func far(word: String) { #expect(Spelling.nearest(word, among: ["memory", "timeout"]) == nil) }
}
