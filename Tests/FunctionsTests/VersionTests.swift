// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB
import Testing
import Units

@testable import Functions

@Suite("Versions and aliases")
struct VersionTests {
    private let state: TemporaryState
    private let registry: FunctionRegistry

    init() throws {
        state = try TemporaryState()
        registry = try FunctionRegistry(stateDirectory: state.path)
        var spec = FunctionSpec(name: "f", runtime: "python", handler: "a.b")
        spec.description = "first"
        _ = try registry.create(spec, code: Self.code("aa"))
    }

    private static func code(_ sha256: String) -> CodeBundle {
        CodeBundle(sha256: sha256, directory: "/x", archiveSize: 10)
    }

    private func alias(_ version: String, _ weights: [String: Double] = [:]) -> AliasRecord {
        var alias = AliasRecord(function: "f", name: "prod", version: version)
        alias.weights = weights
        return alias
    }

    @Test("a version stays what $LATEST was, and unchanged code is the same version again")
    func immutable() throws {
        let first = try registry.publish("f", description: "one")
        #expect(first.version == "1" && first.spec.description == "one")
        #expect(try registry.publish("f", description: "other words") == first)
        _ = try registry.update("f") { $0.concurrency = 3 }
        #expect(try registry.publish("f") == first, "what is said of the function as a whole makes no version")
        _ = try registry.update("f", code: Self.code("bb")) { $0.env = ["A": "1"] }
        let second = try registry.publish("f")
        #expect(second.version == "2" && second.spec.description == "first" && second.spec.concurrency == nil)
        #expect(try registry.version("1", of: "f") == first)
        #expect(try registry.digests() == ["aa", "bb"])
    }

    @Test("numbers are not given twice, whatever is deleted")
    func numbers() throws {
        _ = try registry.publish("f")
        #expect(try registry.deleteVersion("1", of: "f"))
        #expect(try !registry.deleteVersion("1", of: "f"))
        #expect(try registry.publish("f").version == "2")
    }

    @Test("the oldest versions go where few are to be kept, but none that an alias leads to, and never the newest")
    func trimmed() throws {
        let state = try TemporaryState()
        let registry = try FunctionRegistry(stateDirectory: state.path)
        _ = try registry.create(FunctionSpec(name: "f", runtime: "python"), code: Self.code("0"))
        for number in 1...5 {
            _ = try registry.update("f", code: Self.code("\(number)")) { _ in }
            _ = try registry.publish("f")
        }
        _ = try registry.createAlias(alias("1", ["3": 0.5]))
        #expect(try registry.trimVersions(of: "f", to: 5) == 0)
        #expect(try registry.trimVersions(of: "f", to: 3) == 2)
        #expect(try registry.versions(of: "f").map(\.version) == ["1", "3", "5"])
        #expect(try registry.trimVersions(of: "f", to: 1) == 0)
        #expect(try registry.versions(of: "f").map(\.version) == ["1", "3", "5"])
    }

    @Test("publishing something else than the caller looked at is refused")
    func expectations() throws {
        #expect(throws: FunctionsError.revisionMismatch(name: "f")) {
            try registry.publish("f", expectedRevisionID: "another")
        }
        let error = #expect(throws: FunctionsError.self) { try registry.publish("f", expectedSHA256: "AAAA") }
        #expect(error?.description.hasPrefix("CodeSHA256 (AAAA) is different from current CodeSHA256") == true)
        #expect(try registry.publish("f", expectedSHA256: "qg==").version == "1")
    }

    @Test("a database of before there were versions is opened, and its functions can be published")
    func oldDatabase() throws {
        let old = try TemporaryState()
        let record =
            #"{"spec":{"name":"g","runtime":"python"},"version":"$LATEST","revision":7,"revisionID":"r","codeSHA256":"cc","#
            + #""codeSize":3,"codeGeneration":2,"lastModifiedMs":1}"#
        do {
            let queue = try DatabaseQueue(path: "\(old.path)/registry.sqlite")
            try queue.write { db in
                try db.execute(
                    sql: """
                        CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
                        INSERT INTO grdb_migrations VALUES ('functions');
                        CREATE TABLE functions (name TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL);
                        """
                )
                let sql = "INSERT INTO functions VALUES ('g', ?)"
                try db.execute(sql: sql, arguments: [Data(record.utf8)])
            }
            try queue.close()
        }
        let registry = try FunctionRegistry(stateDirectory: old.path)
        #expect(try registry.get("g")?.revision == 7)
        #expect(try registry.publish("g").version == "1")
        #expect(try registry.registered("g")?.versions.keys.sorted() == ["1"])
    }

    @Test("everything is there when it is opened again, and goes with its function")
    func durable() throws {
        _ = try registry.publish("f")
        let made = try registry.createAlias(alias("1"))
        let wanted = ProvisionedRecord(function: "f", qualifier: "prod", requested: 2, modifiedMs: 5)
        try registry.provision(wanted) { _ in }
        registry.close()
        let again = try FunctionRegistry(stateDirectory: state.path)
        let found = try #require(try again.registered("f"))
        #expect(found.aliases == ["prod": made] && found.provisioned == [wanted])
        #expect(found.provisionedByVersion == ["1": 2])
        #expect(try again.delete("f"))
        #expect(
            try again.registered("f") == nil && again.aliases(of: "f").isEmpty && again.provisioned(of: "f").isEmpty
        )
    }

    @Test("an alias leads to versions that are there, keeps them, and is changed by who knows its revision")
    func aliases() throws {
        #expect(throws: FunctionsError.notFound("f:1")) { try registry.createAlias(alias("1")) }
        _ = try registry.publish("f")
        let first = try registry.createAlias(alias("1"))
        #expect(throws: FunctionsError.aliasExists(function: "f", name: "prod")) {
            try registry.createAlias(alias("1"))
        }
        #expect(throws: FunctionsError.self) { try registry.deleteVersion("1", of: "f") }
        let second = try registry.updateAlias("prod", of: "f", expectedRevisionID: first.revisionID) {
            $0.version = FunctionRecord.latest
        }
        #expect(second.revisionID != first.revisionID)
        #expect(throws: FunctionsError.revisionMismatch(name: "f")) {
            try registry.updateAlias("prod", of: "f", expectedRevisionID: first.revisionID) { _ in }
        }
        #expect(throws: FunctionsError.aliasNotFound(function: "f", name: "test")) {
            try registry.updateAlias("test", of: "f") { _ in }
        }
        #expect(try registry.deleteVersion("1", of: "f"))
        #expect(try registry.deleteAlias("prod", of: "f"))
    }

    @Test("an alias picks by weight: where a request falls decides")
    func weights() {
        let mixed = alias("1", ["2": 0.25, "3": 0.5])
        for (point, version) in [(0.0, "2"), (0.2499, "2"), (0.25, "3"), (0.7499, "3"), (0.75, "1"), (0.999, "1")] {
            #expect(mixed.choose(point) == version, "\(point)")
        }
        #expect(alias("1").choose(0) == "1")
        #expect(alias("1", ["2": 1]).choose(0.999) == "2")
        #expect(mixed.shares == ["1": 0.25, "2": 0.25, "3": 0.5])
    }

    @Test(
        "weights that cannot be are refused",
        arguments: [["2": -0.1], ["2": 1.1], ["2": 0.6, "3": 0.6], ["1": 0.5], ["$LATEST": 0.5]]
    )
    func badWeights(weights: [String: Double]) {
        #expect(throws: FunctionsError.self) { try alias("1", weights).check() }
    }

    @Test("what is provisioned for an alias is shared out as its requests are")
    func sharedOut() throws {
        let latest = try #require(try registry.get("f"))
        let record = ProvisionedRecord(function: "f", qualifier: "prod", requested: 5, modifiedMs: 0)
        let function = RegisteredFunction(
            latest: latest,
            aliases: ["prod": alias("1", ["2": 0.25])],
            provisioned: [record, ProvisionedRecord(function: "f", qualifier: "2", requested: 1, modifiedMs: 0)]
        )
        #expect(function.counts(of: record) == ["1": 4, "2": 1])
        #expect(function.provisionedByVersion == ["1": 4, "2": 2])
    }

    @Test("a layer's numbers stay taken, and its code is kept while it, or a function with it, is there")
    func layers() throws {
        let layer = try registry.publishLayer(LayerRecord(name: "l", code: Self.code("dd")))
        #expect(layer.version == 1)
        _ = try registry.update("f") { $0.layers = [FunctionLayer(arn: "l:1", sha256: "dd", codeSize: 1)] }
        try registry.deleteLayer("l", 1)
        #expect(try registry.layer("l", 1) == nil)
        #expect(try registry.digests() == ["aa", "dd"])
        #expect(try registry.publishLayer(LayerRecord(name: "l", code: Self.code("ee"))).version == 2)
        #expect(try registry.layers("l").map(\.version) == [2])
    }
}
