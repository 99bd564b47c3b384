import Foundation
// SPDX-License-Identifier: Apache-2.0
import GRDB
import Testing
import Units

@testable import Functions

@Suite("Versions and aliases")
struct VersionTests {
    private let code = CodeBundle(sha256: "aa", directory: "", archiveSize: 1)

    private func withRegistry(_ body: (FunctionRegistry) throws -> Void) throws {
        let directory = "/tmp/ebb-versions-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(try FunctionRegistry(stateDirectory: directory))
    }

    @Test("a version stays as it was published, and what did not change is not published twice")
    func publishing() throws {
        try withRegistry { registry in
            _ = try registry.create(FunctionSpec(name: "f", runtime: "python", handler: "a.b"), code: code)
            let first = try registry.publish("f")
            #expect(first.version == "1")
            #expect(try registry.publish("f").version == "1")
            _ = try registry.update("f") { $0.handler = "c.d" }
            #expect(try registry.publish("f").version == "2")
            let kept = try registry.registered("f")
            #expect(kept?.versions["1"]?.spec.handler == "a.b")
            #expect(kept?.versions["2"]?.spec.handler == "c.d")
            #expect(kept?.record("2")?.version == "2" && kept?.record(nil)?.version == "$LATEST")
        }
    }

    @Test(
        "a request's point decides which version of an alias serves it",
        arguments: [0.0, 0.24, 0.25, 0.34, 0.35, 0.99]
    )
    func choosing(point: Double) {
        var alias = AliasRecord(function: "f", name: "live", version: "1")
        alias.weights = ["2": 0.25, "3": 0.1]
        #expect(alias.choose(point) == (point < 0.25 ? "2" : point < 0.35 ? "3" : "1"))
    }

    @Test(
        "weights that are no parts of a whole are refused",
        arguments: [["2": 1.5], ["2": -0.1], ["2": 0.6, "3": 0.6], ["1": 0.5], ["$LATEST": 0.5]]
    )
    func weights(weights: [String: Double]) {
        var alias = AliasRecord(function: "f", name: "live", version: "1")
        alias.weights = weights
        #expect(throws: FunctionsError.self) { try alias.check() }
    }

    @Test("an alias's provisioned sandboxes are shared out as its requests are, and none is lost")
    func sharing() {
        var alias = AliasRecord(function: "f", name: "live", version: "1")
        alias.weights = ["2": 0.3]
        let latest = FunctionRecord(
            spec: FunctionSpec(name: "f", runtime: "python"),
            revision: 1,
            revisionID: "",
            codeSHA256: "aa",
            codeSize: 1,
            codeGeneration: 1,
            lastModifiedMs: 0
        )
        let record = ProvisionedRecord(function: "f", qualifier: "live", requested: 5, modifiedMs: 0)
        let function = RegisteredFunction(latest: latest, aliases: ["live": alias], provisioned: [record])
        #expect(function.counts(of: record) == ["1": 4, "2": 1])
    }
}
