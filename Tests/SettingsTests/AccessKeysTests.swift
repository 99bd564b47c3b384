// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Testing

@testable import Settings

@Suite("The file of keys", .serialized)
struct AccessKeysTests {
    private static let digest = String(repeating: "0f", count: 32)
    private let path = "/tmp/ebb-keys-\(getpid()).yaml"

    private func write(_ text: String, mode: mode_t = 0o600) throws {
        unsafe unlink(path)
        close(unsafe open(path, O_CREAT | O_WRONLY, 0o600))
        try KernelFile.write(path, text)
        _ = unsafe chmod(path, mode)
    }

    @Test("tokens and keys are read by name")
    func good() throws {
        defer { unsafe unlink(path) }
        try write("tokens:\n  ci: \(Self.digest)\nkeys:\n  AKID: {secret: s3cret, name: deploy}\n  B: {secret: x}\n")
        let keys = try AccessKeys.read(path)
        #expect(keys.tokens == [AccessKeys.Token(name: "ci", digest: .init(repeating: 0x0F, count: 32))])
        #expect(keys.keys["AKID"] == AccessKeys.Key(name: "deploy", secret: "s3cret"))
        #expect(keys.keys["B"]?.name == "B")
        try write("")
        #expect(try AccessKeys.read(path) == AccessKeys())
    }

    @Test(
        "what is wrong is said with its place, and never with the secret",
        arguments: [
            ("tokens: {ci: hunter2}", ":1:14: error: tokens: expected the token's SHA-256"),
            ("tokns: {}", ":1:1: error: unknown key 'tokns'; did you mean 'tokens'?"),
            ("keys:\n  AKID: {name: x}", ":2:3: error: keys.AKID: 'secret' is missing"),
            ("keys:\n  AKID: hunter2", ":2:9: error: keys.AKID: expected {secret: …, name: …}"),
            ("keys:\n  AKID: {secrt: hunter2}", ":2:10: error: unknown key 'secrt'; did you mean 'secret'?"),
            ("keys: {a b: {secret: hunter2}}", ":1:8: error: keys: an access key ID is made of"),
            ("tokens: [", ":"),
        ]
    )
    func bad(text: String, words: String) throws {
        defer { unsafe unlink(path) }
        try write(text)
        let errors = #expect(throws: SettingsErrors.self) { try AccessKeys.read(path) }
        #expect(errors?.description.hasPrefix(path + words) == true, "\(errors?.description ?? "")")
        #expect(errors?.description.contains("hunter2") == false)
    }

    @Test(
        "a file that others can read or change, or that is none, is refused",
        arguments: [0o644, 0o604, 0o620, 0o666]
    )
    func exposed(mode: mode_t) throws {
        defer { unsafe unlink(path) }
        try write("tokens: {}", mode: mode)
        let errors = #expect(throws: SettingsErrors.self) { try AccessKeys.read(path) }
        #expect(errors?.description.contains("chmod 0600") == true)
        #expect(throws: SettingsErrors.self) { try AccessKeys.read("/tmp") }
        #expect(throws: SettingsErrors.self) { try AccessKeys.read(path + ".none") }
    }

    @Test("a bad version keeps the last good one until the next good one")
    func live() throws {
        defer { unsafe unlink(path) }
        try write("tokens: {ci: \(Self.digest)}")
        let path = path
        let files = try LiveFiles([path]) { () throws(SettingsErrors) in try AccessKeys.read(path) }
        #expect(files.reloadIfChanged() == nil)
        try write("tokens: {ci: nothing}")
        guard case .refused = files.reloadIfChanged() else {
            Issue.record("a bad file was accepted")
            return
        }
        #expect(files.current.tokens.count == 1)
        #expect(files.problem != nil)
        #expect(files.reloadIfChanged() == nil, "it is said once")
        try write("")
        guard case .accepted = files.reloadIfChanged() else {
            Issue.record("a good file was refused")
            return
        }
        #expect(files.current.tokens.isEmpty && files.problem == nil)
    }
}
