// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB

/// What is deployed, on disk: a change is durable before its answer is sent (SQLite, WAL, `synchronous=FULL`).
package final class FunctionRegistry: Sendable {
    let database: StateDatabase

    /// Opens or creates `registry.sqlite` in the state directory.
    package init(stateDirectory: String) throws(FunctionsError) {
        database = try StateDatabase("\(stateDirectory)/registry.sqlite", Self.migrator)
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("functions") { db in
            try db.create(table: "functions") { table in
                table.primaryKey("name", .text)
                table.column("record", .blob).notNull()
            }
        }
        migrator.registerMigration("versions") { db in try FunctionRegistry.addVersions(db) }
        migrator.registerMigration("said of qualifiers") { db in try FunctionRegistry.addQualified(db) }
        return migrator
    }

    package func create(_ spec: FunctionSpec, code: CodeBundle) throws(FunctionsError) -> FunctionRecord {
        try FunctionSpec.checkName(spec.name)
        let record = FunctionRecord(
            spec: spec,
            revision: 1,
            revisionID: UUID().uuidString.lowercased(),
            codeSHA256: code.sha256,
            codeSize: code.archiveSize,
            codeGeneration: Self.newGeneration(),
            lastModifiedMs: Self.now()
        )
        return try database.write { db in
            guard try Self.fetch(db, spec.name) == nil else { throw FunctionsError.alreadyExists(spec.name) }
            try Self.store(db, record)
            return record
        }
    }

    /// Changes a function in one transaction.
    ///
    /// - Parameter expectedRevisionID: refuse the change if the function has another revision by now.
    package func update(
        _ name: String,
        expectedRevisionID: String? = nil,
        code: CodeBundle? = nil,
        _ change: @escaping @Sendable (inout FunctionSpec) throws -> Void = { _ in }
    ) throws(FunctionsError) -> FunctionRecord {
        try database.write { db in
            guard var record = try Self.fetch(db, name) else { throw FunctionsError.notFound(name) }
            if let expectedRevisionID, expectedRevisionID != record.revisionID {
                throw FunctionsError.revisionMismatch(name: name)
            }
            let old = record
            try change(&record.spec)
            if let code {
                record.codeSHA256 = code.sha256
                record.codeSize = code.archiveSize
            }
            record.revision += 1
            record.revisionID = UUID().uuidString.lowercased()
            record.lastModifiedMs = Self.now()
            if Self.outdates(old, record) { record.codeGeneration += 1 }
            try Self.store(db, record)
            return record
        }
    }

    /// Whether sandboxes started for `old` may not serve `new`.
    private static func outdates(_ old: FunctionRecord, _ new: FunctionRecord) -> Bool {
        old.codeSHA256 != new.codeSHA256 || old.spec.handler != new.spec.handler || old.spec.runtime != new.spec.runtime
            || old.spec.env != new.spec.env || old.spec.tmp != new.spec.tmp || old.spec.layers != new.spec.layers
            || old.spec.perSandbox != new.spec.perSandbox || old.spec.proc != new.spec.proc
            || old.spec.image != new.spec.image || old.spec.httpPort != new.spec.httpPort
    }

    package func get(_ name: String) throws(FunctionsError) -> FunctionRecord? {
        try database.read { db in try Self.fetch(db, name) }
    }

    /// All functions, by name, after `marker`.
    package func list(after marker: String = "", limit: Int = .max) throws(FunctionsError) -> [FunctionRecord] {
        try database.read { db in
            let sql = "SELECT record FROM functions WHERE name > ? ORDER BY name LIMIT ?"
            let rows = try Data.fetchAll(db, sql: sql, arguments: [marker, Int64(clamping: limit)])
            return try rows.map { try JSONDecoder().decode(FunctionRecord.self, from: $0) }
        }
    }

    /// Removes a function with all its versions and aliases; `false` when there was none.
    package func delete(_ name: String) throws(FunctionsError) -> Bool {
        try database.write { db in
            for table in ["versions", "aliases"] + Self.qualifiedTables {
                try db.execute(sql: "DELETE FROM \(table) WHERE function = ?", arguments: [name])
            }
            try db.execute(sql: "DELETE FROM functions WHERE name = ?", arguments: [name])
            return db.changesCount > 0
        }
    }

    package func close() { database.close() }

    /// Never one that a function of the same name had before it was deleted: its last sandboxes may still live.
    static func newGeneration() -> Int { Int(now()) }

    static func now() -> Int64 { Int64(Date().timeIntervalSince1970 * 1000) }

    static func fetch(_ db: Database, _ name: String) throws -> FunctionRecord? {
        try Data.fetchOne(db, sql: "SELECT record FROM functions WHERE name = ?", arguments: [name])
            .map { try JSONDecoder().decode(FunctionRecord.self, from: $0) }
    }

    private static func store(_ db: Database, _ record: FunctionRecord) throws {
        let data = try JSONEncoder().encode(record)
        let sql =
            "INSERT INTO functions (name, record) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record"
        try db.execute(sql: sql, arguments: [record.spec.name, data])
    }
}
