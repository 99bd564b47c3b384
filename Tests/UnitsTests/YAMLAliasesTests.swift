// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Units

@Suite("Aliases of YAML")
struct YAMLAliasesTests {
    @Test("a few lines that stand for a thousand million values are too many, whatever else is in the text")
    func bombs() {
        for (levels, references) in [(9, 9), (30, 2), (3, 400)] {
            var text = "a0: &a0 [x, x]\n"
            for n in 1..<levels {
                let all = Array(repeating: "*a\(n - 1)", count: references).joined(separator: ", ")
                text += "a\(n): &a\(n) [\(all)]\n"
            }
            #expect(YAMLAliases.areTooMany(in: text))
            let decoys = String(repeating: "# &a &b &c &d\n", count: 500)
            #expect(YAMLAliases.areTooMany(in: text + decoys))
        }
    }

    @Test("what people write is not")
    func usual() {
        let crons = String(repeating: "  - {cron: '*/5 * * * *', name: n}\n", count: 200)
        #expect(!YAMLAliases.areTooMany(in: crons))
        #expect(!YAMLAliases.areTooMany(in: "description: Salt & pepper &more\n" + crons))
        let shared = "a: &base {memory: 64MiB}\n" + (0..<50).map { "f\($0): *base\n" }.joined()
        #expect(!YAMLAliases.areTooMany(in: shared))
        #expect(!YAMLAliases.areTooMany(in: ""))
    }
}
