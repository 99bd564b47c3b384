// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import fn

@Suite(".fnignore")
struct IgnoreRulesTests {
    @Test(
        "patterns mean what they mean in a .gitignore",
        arguments: [
            // pattern, ignored, not ignored
            ("*.log", ["a.log", "deep/er/b.log"], ["a.logs", "log"]),
            ("/top.txt", ["top.txt"], ["deep/top.txt"]),
            ("docs/*.md", ["docs/a.md"], ["docs/deep/a.md", "x/docs/a.md"]),
            ("docs/**/a.md", ["docs/a.md", "docs/x/y/a.md"], ["a.md"]),
            ("**/cache", ["cache", "a/b/cache"], ["caches"]),
            ("logs/**", ["logs/a", "logs/a/b"], ["logs"]),
            ("a?c", ["abc", "x/axc"], ["ac", "abbc"]),
            ("*a*b*", ["ab", "xaybz"], ["ba"]),
            ("# comment", [], ["# comment", "comment"]),
            ("  \n\nx  ", ["x"], ["y"]),
        ] as [(String, [String], [String])]
    )
    func patterns(text: String, ignored: [String], kept: [String]) {
        let rules = IgnoreRules(text)
        for path in ignored { #expect(rules.ignores(path, isDirectory: false), "\(path)") }
        for path in kept { #expect(!rules.ignores(path, isDirectory: false), "\(path)") }
    }

    @Test("a slash at the end means directories alone")
    func directories() {
        let rules = IgnoreRules("build/\n")
        #expect(rules.ignores("build", isDirectory: true))
        #expect(rules.ignores("x/build", isDirectory: true))
        #expect(!rules.ignores("build", isDirectory: false))
    }

    @Test("the last line that matches decides, and may take back what is always ignored")
    func takingBack() {
        let rules = IgnoreRules("*.txt\n!keep.txt\n!.DS_Store\n")
        #expect(rules.ignores("a.txt", isDirectory: false))
        #expect(!rules.ignores("keep.txt", isDirectory: false))
        #expect(!rules.ignores(".DS_Store", isDirectory: false))
    }

    @Test("version control, caches and the file itself are never code")
    func always() {
        for name in [".git", "__pycache__", "deep/__pycache__", ".mypy_cache"] {
            #expect(IgnoreRules().ignores(name, isDirectory: true), "\(name)")
        }
        #expect(IgnoreRules().ignores(".fnignore", isDirectory: false))
        #expect(!IgnoreRules().ignores("node_modules", isDirectory: true))
    }

    @Test("a pattern that is made to take long does not", .timeLimit(.minutes(1)))
    func hostile() {
        let stars = String(repeating: "*a", count: 200)
        #expect(!IgnoreRules(stars).ignores(String(repeating: "a", count: 199), isDirectory: false))
    }
}
