// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Testing
import Units

@testable import Functions

@Suite("The registry")
struct RegistryTests {
    private let code = CodeBundle(sha256: "aa", directory: "/x", archiveSize: 10)

    @Test("keeps everything when it is opened again")
    func durable() throws {
        let state = try TemporaryState()
        let first = try FunctionRegistry(stateDirectory: state.path)
        var spec = FunctionSpec(name: "f", runtime: "python", handler: "a.b")
        spec.memory = .mib(64)
        let record = try first.create(spec, code: code)
        first.close()
        let second = try FunctionRegistry(stateDirectory: state.path)
        #expect(try second.get("f") == record)
        #expect(try second.list().map(\.spec.name) == ["f"])
        #expect(try second.delete("f"))
        #expect(try second.get("f") == nil)
    }

    @Test("a record that an older version wrote is read, with defaults for what it did not know")
    func older() throws {
        let text = #"{"name":"f","runtime":"python","memory":67108864}"#
        let spec = try JSONDecoder().decode(FunctionSpec.self, from: Data(text.utf8))
        #expect(spec.memory == .mib(64) && spec.events == EventHandling() && spec.env.isEmpty)
    }

    @Test("a name is taken once, and must be one")
    func names() throws {
        let state = try TemporaryState()
        let registry = try FunctionRegistry(stateDirectory: state.path)
        _ = try registry.create(FunctionSpec(name: "f", runtime: "python"), code: code)
        #expect(throws: FunctionsError.alreadyExists("f")) {
            try registry.create(FunctionSpec(name: "f", runtime: "python"), code: code)
        }
        for name in ["", "a b", "../x", String(repeating: "x", count: 65), "ä"] {
            #expect(throws: FunctionsError.self) {
                try registry.create(FunctionSpec(name: name, runtime: "python"), code: code)
            }
        }
    }

    @Test("a size does not outdate sandboxes; code, handler and environment do")
    func generations() throws {
        let state = try TemporaryState()
        let registry = try FunctionRegistry(stateDirectory: state.path)
        let first = try registry.create(FunctionSpec(name: "f", runtime: "python"), code: code)
        let resized = try registry.update("f") { $0.memory = .mib(1) }
        #expect(resized.codeGeneration == first.codeGeneration)
        #expect(resized.revision == 2 && resized.revisionID != first.revisionID)
        let changed = try registry.update("f") { $0.env = ["A": "1"] }.codeGeneration
        #expect(changed != first.codeGeneration)
        let recoded = try registry.update("f", code: CodeBundle(sha256: "bb", directory: "", archiveSize: 1))
        #expect(![first.codeGeneration, changed].contains(recoded.codeGeneration))
    }

    @Test("a change that was made from an old revision is refused")
    func locking() throws {
        let state = try TemporaryState()
        let registry = try FunctionRegistry(stateDirectory: state.path)
        let first = try registry.create(FunctionSpec(name: "f", runtime: "python"), code: code)
        _ = try registry.update("f", expectedRevisionID: first.revisionID) { $0.memory = .mib(1) }
        #expect(throws: FunctionsError.revisionMismatch(name: "f")) {
            try registry.update("f", expectedRevisionID: first.revisionID) { $0.memory = .mib(2) }
        }
        #expect(throws: FunctionsError.notFound("g")) { try registry.update("g") { _ in } }
    }
}

@Suite("Manifests and runtimes")
struct ManifestTests {
    @Test("function.yaml is read with its units")
    func reads() throws {
        let manifest = try Manifest(
            yaml: "name: f\nruntime: python\nhandler: a.b\nmemory: 64MiB\ncpus: 0.5\ntimeout: 9s\nenv: {A: 1}\n"
        )
        #expect(manifest.memory == .mib(64))
        #expect(manifest.cpus == CPUQuota(millis: 500))
        #expect(manifest.timeoutMs == 9000)
        #expect(manifest.env == ["A": "1"])
    }

    @Test(
        "what is wrong in it is said with its place",
        arguments: [
            ("memroy: 1MiB", "function.yaml:1:1: error: unknown key 'memroy'; did you mean 'memory'?"),
            ("memory: 64", ""),
            ("timeout: soon", "function.yaml:1:1: error: timeout: expected a duration such as '30s', got 'soon'"),
            ("proc: all", "function.yaml:1:1: error: proc: expected minimal or masked, got 'all'"),
            ("[1]", "function.yaml:1:1: error: expected `key: value` lines"),
        ]
    )
    func wrong(text: String, message: String) throws {
        guard !message.isEmpty else {
            #expect(try Manifest(yaml: text).memory == Bytes(64))
            return
        }
        let error = #expect(throws: FunctionsError.self) { try Manifest(yaml: text) }
        #expect(
            error?.description.hasSuffix(message.split(separator: "error: ").last ?? "") == true,
            "\(String(describing: error))"
        )
    }

    @Test("what is seen at /proc is the function's word, and its runtime's before it")
    func proc() throws {
        #expect(try Manifest(yaml: "proc: masked").proc == .masked)
        #expect(try Manifest(yaml: "name: f").proc == nil)
        let text = "name: jvm\nimage: java\ncommand: [/usr/bin/java]\n"
        #expect(try RuntimeCatalog.parse(text, file: "", directory: "").proc == .minimal)
        #expect(try RuntimeCatalog.parse(text + "proc: masked\n", file: "", directory: "").proc == .masked)
        #expect(throws: FunctionsError.self) {
            try RuntimeCatalog.parse(text + "proc: none\n", file: "", directory: "")
        }
    }

    @Test("a program that the function brings is its code's, or else a layer's")
    func program() throws {
        let state = try TemporaryState()
        let (code, layers) = ("\(state.path)/code", "\(state.path)/layers")
        for directory in [code, layers] {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        let runtime = try RuntimeCatalog.parse("name: x\nimage: y\nprogram: go\n", file: "", directory: "")
        let wrapped = try RuntimeCatalog.parse(
            "name: x\nimage: y\ncommand: [/.bridge]\nprogram: go\n",
            file: "",
            directory: ""
        )
        func write(_ directory: String, _ permissions: Int) throws {
            let attributes: [FileAttributeKey: Any] = [.posixPermissions: permissions]
            #expect(FileManager.default.createFile(atPath: "\(directory)/go", contents: nil, attributes: attributes))
        }
        // What is nowhere is named where it should be.
        #expect(runtime.command(code: code, layers: layers) == ["/var/task/go"])
        try write(layers, 0o755)
        #expect(runtime.command(code: code, layers: layers) == ["/opt/go"])
        #expect(runtime.command(code: code, layers: nil) == ["/var/task/go"])
        try write(code, 0o644)
        #expect(runtime.command(code: code, layers: layers) == ["/opt/go"])
        try write(code, 0o755)
        #expect(wrapped.command(code: code, layers: layers) == ["/.bridge", "/var/task/go"])
        // Ahead of its function the bridge waits, which becomes that program.
        #expect(runtime.waitingCommand == ["/.bridge", "/var/task/go"])
        #expect(wrapped.waitingCommand == ["/.bridge", "/var/task/go"])
        for right in ["program: go\nprewarm: {memory: 8MiB}", "command: [/x]\nprewarm: {memory: 8MiB}"] {
            #expect(throws: Never.self) {
                try RuntimeCatalog.parse("name: x\nimage: y\n\(right)\n", file: "", directory: "")
            }
        }
        for wrong in ["program: a/b", "", "program: go\ncommand: [/x]\nprewarm: {memory: 8MiB}"] {
            #expect(throws: FunctionsError.self) {
                try RuntimeCatalog.parse("name: x\nimage: y\n\(wrong)\n", file: "", directory: "")
            }
        }
    }

    @Test("the runtimes that come with Ebb can be read, and are found by Lambda's names as well")
    func shipped() throws {
        let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Runtimes"
        let catalog = try RuntimeCatalog(directory: root)
        #expect(catalog.problems.isEmpty)
        #expect(catalog.all.map(\.name).sorted() == ["command", "http", "node", "provided", "python"])
        #expect(catalog.find("python3.12")?.name == "python")
        #expect(catalog.find("nodejs20.x")?.name == "node")
        #expect(catalog.find("provided.al2023")?.name == "provided")
        #expect(catalog.find("cobol") == nil)
    }
}
