// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Testing
import Units

@testable import Functions

@Suite("Layers over each other")
struct LayerTreeTests {
    private let state: TemporaryState
    private let store: CodeStore

    init() throws {
        state = try TemporaryState()
        store = try CodeStore(stateDirectory: state.path, limits: CodeLimits(unpacked: .kib(64)))
    }

    private func layer(_ entries: [UInt8]...) throws -> String {
        let archive = entries.flatMap { $0 } + [UInt8](repeating: 0, count: 1024)
        return try store.store(archive: archive) { $0.sha256 }
    }

    private func merged(_ layers: [String]) throws -> String {
        try store.merge(layers: layers) {}
        return store.directory(try #require(LayerTree.digest(of: layers)))
    }

    @Test("later layers hide what earlier ones have under the same name")
    func later() throws {
        let first = try layer(Tar.entry("python/a.py", "1"), Tar.entry("python/b.py", "1"), Tar.entry("x/y/z", "1"))
        let second = try layer(Tar.entry("python/b.py", "2"), Tar.entry("x/y", "a file now"))
        let tree = try merged([first, second])
        #expect(try KernelFile.read("\(tree)/python/a.py") == "1")
        #expect(try KernelFile.read("\(tree)/python/b.py") == "2")
        #expect(try KernelFile.read("\(tree)/x/y") == "a file now")
        #expect(try KernelFile.read("\(store.directory(first))/python/b.py") == "1", "layers stay as they are")
        #expect(try KernelFile.read("\(try merged([second, first]))/python/b.py") == "1")
    }

    @Test("one layer is its own directory, and a list is put together once")
    func once() throws {
        let (first, second) = (try layer(Tar.entry("a", "1")), try layer(Tar.entry("b", "2")))
        #expect(LayerTree.digest(of: []) == nil)
        #expect(LayerTree.digest(of: [first]) == first)
        _ = try merged([first, second])
        _ = try merged([first, second])
        #expect(try Directory.list("\(state.path)/code").count == 3)
        try store.collectGarbage { [first] }
        #expect(try Directory.list("\(state.path)/code") == [first])
    }

    @Test("nothing is written through a link of another layer")
    func links() throws {
        let first = try layer(Tar.entry("inner/keep", "1"), Tar.entry("lib", type: "2", link: "inner"))
        let second = try layer(Tar.entry("lib/new", "2"))
        let tree = try merged([first, second])
        #expect(try Directory.list("\(tree)/inner") == ["keep"])
        #expect(try Directory.list("\(tree)/lib") == ["new"])
        let link = try merged([second, first])
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(link)/lib") == "inner")
    }

    @Test("all layers together are bounded as one is, and what is refused leaves nothing")
    func bounded() throws {
        let text = String(repeating: "x", count: 40_000)
        let (first, second) = (try layer(Tar.entry("a", text)), try layer(Tar.entry("b", text)))
        #expect(throws: FunctionsError.unpackedTooLarge(limit: .kib(64))) {
            try store.merge(layers: [first, second]) {}
        }
        #expect(try Directory.list("\(state.path)/code").count == 2)
    }
}
