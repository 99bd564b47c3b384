// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Linux

@Suite("Files that people write")
struct WholeTextTests {
    private func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = "/tmp/ebb-text-\(UUID().uuidString)"
        try Directory.makeAll(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(directory)
    }

    @Test("one that is too large is refused, and not read in part")
    func tooLarge() throws {
        try withDirectory { directory in
            let path = "\(directory)/large"
            try Data(repeating: 35, count: WholeText.limit).write(to: URL(filePath: path))
            #expect(try WholeText.read(path).utf8.count == WholeText.limit)
            try Data(repeating: 35, count: WholeText.limit + 1).write(to: URL(filePath: path))
            let error = #expect(throws: SyscallError.self) { try WholeText.read(path) }
            #expect(error?.errno == EFBIG)
        }
    }

    @Test("of somebody else's directory none outside of it is read, and nothing that is no file")
    func inside() throws {
        try withDirectory { directory in
            let (root, files) = ("\(directory)/root", FileManager.default)
            try Directory.makeAll("\(root)/sub")
            try "outside".write(toFile: "\(directory)/secret", atomically: false, encoding: .utf8)
            try "inside".write(toFile: "\(root)/sub/file", atomically: false, encoding: .utf8)
            try files.createSymbolicLink(atPath: "\(root)/link", withDestinationPath: "sub/file")
            try files.createSymbolicLink(atPath: "\(root)/out", withDestinationPath: "../secret")
            try files.createSymbolicLink(atPath: "\(root)/far", withDestinationPath: "\(directory)/secret")
            #expect(try WholeText.read("link", inside: root) == "inside")
            for name in ["out", "far", "none"] {
                let error = #expect(throws: SyscallError.self) { try WholeText.read(name, inside: root) }
                #expect(error?.errno == ENOENT, "\(name)")
            }
            #expect(unsafe mkfifo("\(root)/pipe", 0o600) == 0)
            let error = #expect(throws: SyscallError.self) { try WholeText.read("pipe", inside: root) }
            #expect(error?.errno == EINVAL)
        }
    }
}
