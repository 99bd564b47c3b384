// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Testing
import Units

@testable import Functions

/// A state directory for one test.
final class TemporaryState {
    let path = "/tmp/ebb-functions-\(UUID().uuidString)"
    init() throws { try Directory.make(path) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Writes tar archives, hostile ones included (POSIX.1-1988 ustar).
enum Tar {
    static func entry(
        _ name: String,
        _ content: String = "",
        type: Character = "0",
        link: String = "",
        mode: Int = 0o644,
        sparse size: Int? = nil
    ) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<(offset + text.utf8.count), with: text.utf8)
        }
        func octal(_ value: Int, _ digits: Int) -> String {
            let text = String(value, radix: 8)
            return String(repeating: "0", count: digits - text.count) + text
        }
        put(String(name.prefix(100)), at: 0)
        put(octal(mode, 7), at: 100)
        put(octal(0, 7), at: 108)
        put(octal(0, 7), at: 116)
        put(octal(content.utf8.count, 11), at: 124)
        put(octal(0, 11), at: 136)
        put("        ", at: 148)
        put(String(type), at: 156)
        put(link, at: 157)
        put("ustar\u{0}00", at: 257)
        if let size {  // GNU's form of a file with holes: here one hole, with the content behind it
            put("S", at: 156)
            put("ustar  \u{0}", at: 257)
            put(octal(size - content.utf8.count, 11), at: 386)
            put(octal(content.utf8.count, 11), at: 398)
            put(octal(size, 11), at: 483)
        }
        put(octal(header.reduce(0) { $0 + Int($1) }, 6), at: 148)
        header[154] = 0
        let padding = [UInt8](repeating: 0, count: (512 - content.utf8.count % 512) % 512)
        return header + Array(content.utf8) + padding
    }

    static func archive(_ entries: [UInt8]...) -> [UInt8] {
        entries.flatMap { $0 } + [UInt8](repeating: 0, count: 1024)
    }
}

@Suite("The code store")
struct CodeStoreTests {
    private func store(_ archive: [UInt8], limits: CodeLimits = CodeLimits()) throws -> [String] {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path, limits: limits)
        let bundle = try store.store(archive: archive) { $0 }
        return FileManager.default.subpaths(atPath: bundle.directory)?.sorted() ?? []
    }

    @Test("a file has its size, also where it ends in a hole, and a hole counts")
    func holes() throws {
        let state = try TemporaryState()
        let archive = Tar.archive(Tar.entry("a", "x", sparse: 15_000), Tar.entry("b", sparse: 15_000))
        let code = try CodeStore(stateDirectory: state.path).store(archive: archive) { $0 }
        let files = try ["a", "b"].map { try Data(contentsOf: URL(filePath: "\(code.directory)/\($0)")) }
        #expect(files.map(\.count) == [15_000, 15_000])
        #expect(throws: FunctionsError.unpackedTooLarge(limit: Bytes(29_999))) {
            try store(archive, limits: CodeLimits(unpacked: Bytes(29_999)))
        }
    }

    @Test("unpacks files, directories and links that stay inside")
    func unpacks() throws {
        let archive = Tar.archive(
            Tar.entry("lib/a.py", "x = 1\n"),
            Tar.entry("run", "#!/bin/sh\n", mode: 0o4755),
            Tar.entry("b.py", type: "2", link: "lib/a.py")
        )
        let state = try TemporaryState()
        let bundle = try CodeStore(stateDirectory: state.path).store(archive: archive) { $0 }
        #expect(try KernelFile.read("\(bundle.directory)/b.py") == "x = 1\n")
        let mode =
            try FileManager.default.attributesOfItem(atPath: "\(bundle.directory)/run")[.posixPermissions] as? Int
        #expect(mode == 0o755, "setuid is not kept")
    }

    @Test("the same archive is stored once, and its digest is SHA-256")
    func storedOnce() throws {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        let archive = Tar.archive(Tar.entry("a", "1"))
        let first = try store.store(archive: archive) { $0 }
        #expect(try store.store(archive: archive) { $0 } == first)
        #expect(first.sha256.count == 64)
        #expect(try Directory.list("\(state.path)/code") == [first.sha256])
    }

    @Test(
        "hostile entries are refused by name",
        arguments: [
            (Tar.entry("../evil", "x"), "leads out"), (Tar.entry("/etc/evil", "x"), "absolute"),
            (Tar.entry("a/../../evil", "x"), "leads out"),
            (Tar.entry("link", type: "2", link: "/etc/passwd"), "outside"),
            (Tar.entry("d/link", type: "2", link: "../../x"), "outside"),
            (Tar.entry("hard", type: "1", link: "a"), "hard link"),
            (Tar.entry("device", type: "3"), "no file"), (Tar.entry("fifo", type: "6"), "no file"),
        ]
    )
    func hostile(entry: [UInt8], reason: String) {
        let error = #expect(throws: FunctionsError.self) { try store(Tar.archive(Tar.entry("a", "x"), entry)) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test("nothing is written through a link")
    func throughLink() {
        let archive = Tar.archive(Tar.entry("link", type: "2", link: "."), Tar.entry("link/file", "x"))
        #expect(throws: FunctionsError.self) { try store(archive) }
    }

    @Test("sizes are counted as they come out, entries are counted, and twice the same name is refused")
    func bounds() {
        let large = Tar.archive(Tar.entry("large", String(repeating: "x", count: 5000)))
        #expect(throws: FunctionsError.unpackedTooLarge(limit: Bytes(4096))) {
            try store(large, limits: CodeLimits(unpacked: Bytes(4096)))
        }
        #expect(throws: FunctionsError.archiveTooLarge(limit: Bytes(100))) {
            try store(large, limits: CodeLimits(archive: Bytes(100)))
        }
        let two = Tar.archive(Tar.entry("a", "1"), Tar.entry("b", "2"))
        #expect(throws: FunctionsError.self) { try store(two, limits: CodeLimits(entries: 1)) }
        #expect(throws: FunctionsError.self) { try store(Tar.archive(Tar.entry("a", "1"), Tar.entry("a", "2"))) }
    }

    @Test(
        "what is no archive is said to be none",
        arguments: [[], [1, 2, 3], Array("PK\u{3}\u{4}junk".utf8)] as [[UInt8]]
    )
    func nonsense(bytes: [UInt8]) { #expect(throws: FunctionsError.self) { try store(bytes) } }

    @Test("a failed or interrupted unpacking leaves nothing")
    func leavesNothing() throws {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        #expect(throws: FunctionsError.self) {
            try store.store(archive: Tar.archive(Tar.entry("a", "x"), Tar.entry("../b", "x"))) { $0 }
        }
        #expect(try Directory.list("\(state.path)/code") == [])
        try Directory.make("\(state.path)/code/.interrupted")
        _ = try CodeStore(stateDirectory: state.path)
        #expect(try Directory.list("\(state.path)/code") == [])
    }

    @Test("code that somebody is about to register is no garbage, and is afterwards")
    func pinned() throws {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        let bundle = try store.store(archive: Tar.archive(Tar.entry("a", "1"))) { bundle in
            #expect(throws: Never.self) { try store.collectGarbage { [] } }
            #expect(Directory.isDirectory(bundle.directory))
            return bundle
        }
        try store.collectGarbage { [bundle.sha256] }
        #expect(Directory.isDirectory(bundle.directory))
        try store.collectGarbage { [] }
        #expect(try Directory.list("\(state.path)/code") == [])
    }

    @Test("what has become garbage while sandboxes run on it goes with the last of them, and no sooner")
    func kept() throws {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        let bundle = try store.store(archive: Tar.archive(Tar.entry("a", "1")))
        let holds = (store.hold([bundle.sha256]), store.hold([bundle.sha256]))
        try store.collectGarbage { [] }
        holds.0.release()
        holds.0.release()
        #expect(Directory.isDirectory(bundle.directory))
        holds.1.release()
        #expect(try Directory.list("\(state.path)/code") == [])
        // Registered by somebody in the meantime, it is none.
        let again = try store.store(archive: Tar.archive(Tar.entry("a", "1")))
        let hold = store.hold([again.sha256])
        try store.collectGarbage { [] }
        _ = try store.store(archive: Tar.archive(Tar.entry("a", "1")))
        hold.release()
        #expect(Directory.isDirectory(again.directory))
    }
}

extension CodeStore {
    /// Kept until the next sweep, as nobody registers it.
    fileprivate func store(archive: [UInt8]) throws(FunctionsError) -> CodeBundle {
        try store(archive: archive) { bundle throws(FunctionsError) in bundle }
    }
}
