// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB

/// Aliases, and what is provisioned for them and for versions.
extension FunctionRegistry {
    package func createAlias(_ alias: AliasRecord) throws(FunctionsError) -> AliasRecord {
        try database.write { db in
            guard try Self.fetch(db, alias.function) != nil else { throw FunctionsError.notFound(alias.function) }
            guard try Self.alias(db, alias.name, of: alias.function) == nil else {
                throw FunctionsError.aliasExists(function: alias.function, name: alias.name)
            }
            return try Self.store(db, alias)
        }
    }

    /// Changes an alias in one transaction.
    ///
    /// - Parameter expectedRevisionID: refuse the change if the alias has another revision by now.
    package func updateAlias(
        _ name: String,
        of function: String,
        expectedRevisionID: String? = nil,
        _ change: (inout AliasRecord) throws -> Void
    ) throws(FunctionsError) -> AliasRecord {
        try database.write { db in
            guard var alias = try Self.alias(db, name, of: function) else {
                throw FunctionsError.aliasNotFound(function: function, name: name)
            }
            if let expectedRevisionID, expectedRevisionID != alias.revisionID {
                throw FunctionsError.revisionMismatch(name: function)
            }
            try change(&alias)
            return try Self.store(db, alias)
        }
    }

    package func alias(_ name: String, of function: String) throws(FunctionsError) -> AliasRecord? {
        try database.read { db in try Self.alias(db, name, of: function) }
    }

    /// The aliases of a function, by name.
    package func aliases(of function: String) throws(FunctionsError) -> [AliasRecord] {
        try database.read { db in try Self.aliases(db, of: function) }
    }

    /// Removes an alias, and what was provisioned for it; `false` when there was none.
    package func deleteAlias(_ name: String, of function: String) throws(FunctionsError) -> Bool {
        try database.write { db in
            let arguments: StatementArguments = [function, name]
            try Self.forget(db, function, name)
            try db.execute(sql: "DELETE FROM aliases WHERE function = ? AND name = ?", arguments: arguments)
            return db.changesCount > 0
        }
    }

    private static func alias(_ db: Database, _ name: String, of function: String) throws -> AliasRecord? {
        let sql = "SELECT record FROM aliases WHERE function = ? AND name = ?"
        return try Data.fetchOne(db, sql: sql, arguments: [function, name])
            .map { try JSONDecoder().decode(AliasRecord.self, from: $0) }
    }

    static func aliases(_ db: Database, of function: String) throws -> [AliasRecord] {
        let sql = "SELECT record FROM aliases WHERE function = ? ORDER BY name"
        return try Data.fetchAll(db, sql: sql, arguments: [function])
            .map { try JSONDecoder().decode(AliasRecord.self, from: $0) }
    }

    /// Writes an alias, whose versions must be there, with a new revision.
    private static func store(_ db: Database, _ alias: AliasRecord) throws -> AliasRecord {
        try alias.check()
        for version in [alias.version] + alias.weights.keys.sorted() where version != FunctionRecord.latest {
            let sql = "SELECT COUNT(*) FROM versions WHERE function = ? AND number = ?"
            guard let number = FunctionRecord.number(version),
                try Int.fetchOne(db, sql: sql, arguments: [alias.function, number]) ?? 0 > 0
            else { throw FunctionsError.notFound("\(alias.function):\(version)") }
        }
        var alias = alias
        alias.revisionID = UUID().uuidString.lowercased()
        try db.execute(
            sql: """
                INSERT INTO aliases (function, name, record) VALUES (?, ?, ?)
                ON CONFLICT (function, name) DO UPDATE SET record = excluded.record
                """,
            arguments: [alias.function, alias.name, try JSONEncoder().encode(alias)]
        )
        return alias
    }

    // MARK: Provisioned

    /// - Parameter check: refuses what does not go with what is there, in the same transaction.
    package func provision(
        _ record: ProvisionedRecord,
        check: (RegisteredFunction) throws -> Void
    ) throws(FunctionsError) {
        try database.write { db in
            guard let registered = try Self.registered(db, record.function) else {
                throw FunctionsError.notFound(record.function)
            }
            try check(registered)
            try db.execute(
                sql: """
                    INSERT INTO provisioned (function, qualifier, record) VALUES (?, ?, ?)
                    ON CONFLICT (function, qualifier) DO UPDATE SET record = excluded.record
                    """,
                arguments: [record.function, record.qualifier, try JSONEncoder().encode(record)]
            )
        }
    }

    package func provisioned(of function: String) throws(FunctionsError) -> [ProvisionedRecord] {
        try database.read { db in try Self.provisioned(db, of: function) }
    }

    /// `false` when nothing was provisioned.
    package func unprovision(_ function: String, _ qualifier: String) throws(FunctionsError) -> Bool {
        try database.write { db in
            let sql = "DELETE FROM provisioned WHERE function = ? AND qualifier = ?"
            try db.execute(sql: sql, arguments: [function, qualifier])
            return db.changesCount > 0
        }
    }

    static func provisioned(_ db: Database, of function: String) throws -> [ProvisionedRecord] {
        let sql = "SELECT record FROM provisioned WHERE function = ? ORDER BY qualifier"
        return try Data.fetchAll(db, sql: sql, arguments: [function])
            .map { try JSONDecoder().decode(ProvisionedRecord.self, from: $0) }
    }
}
