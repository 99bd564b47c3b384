// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB

/// Published versions: what `$LATEST` was at one moment, for good.
extension FunctionRegistry {
    static func addVersions(_ db: Database) throws {
        // Numbers are never given twice, whatever is deleted.
        try db.alter(table: "functions") { table in
            table.add(column: "last_version", .integer).notNull().defaults(to: 0)
        }
        try db.create(table: "versions") { table in
            table.column("function", .text).notNull()
            table.column("number", .integer).notNull()
            table.column("record", .blob).notNull()
            // What `$LATEST` said, by which it is known that nothing has changed since.
            table.column("substance", .blob).notNull()
            table.primaryKey(["function", "number"])
        }
        for (name, key) in [("aliases", "name"), ("provisioned", "qualifier")] {
            try db.create(table: name) { table in
                table.column("function", .text).notNull()
                table.column(key, .text).notNull()
                table.column("record", .blob).notNull()
                table.primaryKey(["function", key])
            }
        }
        try db.create(table: "layers") { table in
            table.column("name", .text).notNull()
            table.column("number", .integer).notNull()
            // None once the version is deleted: its number stays taken.
            table.column("record", .blob)
            table.primaryKey(["name", "number"])
        }
    }

    /// Publishes `$LATEST`; if that is still what was published last, it is that version again.
    ///
    /// - Parameter expectedSHA256: refuse it if the code has another digest by now; base64, as Lambda writes it.
    package func publish(
        _ name: String,
        description: String? = nil,
        expectedRevisionID: String? = nil,
        expectedSHA256: String? = nil
    ) throws(FunctionsError) -> FunctionRecord {
        try database.write { db in
            guard let latest = try Self.fetch(db, name) else { throw FunctionsError.notFound(name) }
            if let expectedRevisionID, expectedRevisionID != latest.revisionID {
                throw FunctionsError.revisionMismatch(name: name)
            }
            if let expectedSHA256, expectedSHA256 != latest.codeSHA256Base64 {
                throw FunctionsError.invalid(
                    "CodeSHA256 (\(expectedSHA256)) is different from current CodeSHA256 in $LATEST "
                        + "(\(latest.codeSHA256Base64)). Please try again with the CodeSHA256 in $LATEST."
                )
            }
            let last = try Int.fetchOne(
                db,
                sql: "SELECT last_version FROM functions WHERE name = ?",
                arguments: [name]
            )
            if let last, let same = try Self.unchanged(db, latest, since: last) { return same }
            return try Self.insert(db, latest, number: (last ?? 0) + 1, description)
        }
    }

    private static func unchanged(_ db: Database, _ latest: FunctionRecord, since number: Int) throws -> FunctionRecord?
    {
        let sql = "SELECT record, substance FROM versions WHERE function = ? AND number = ?"
        guard let row = try Row.fetchOne(db, sql: sql, arguments: [latest.spec.name, number]) else { return nil }
        let substance = try JSONDecoder().decode(FunctionRecord.Substance.self, from: row["substance"])
        return substance == latest.substance ? try JSONDecoder().decode(FunctionRecord.self, from: row["record"]) : nil
    }

    private static func insert(
        _ db: Database,
        _ latest: FunctionRecord,
        number: Int,
        _ description: String?
    ) throws -> FunctionRecord {
        var version = latest
        version.spec = latest.substance.spec
        version.spec.description = description ?? latest.spec.description
        version.version = String(number)
        version.revision = 1
        version.revisionID = UUID().uuidString.lowercased()
        version.codeGeneration = newGeneration()
        try db.execute(
            sql: "INSERT INTO versions (function, number, record, substance) VALUES (?, ?, ?, ?)",
            arguments: [
                latest.spec.name, number, try JSONEncoder().encode(version), try JSONEncoder().encode(latest.substance),
            ]
        )
        let sql = "UPDATE functions SET last_version = ? WHERE name = ?"
        try db.execute(sql: sql, arguments: [number, latest.spec.name])
        return version
    }

    /// One published version.
    package func version(_ number: String, of name: String) throws(FunctionsError) -> FunctionRecord? {
        guard let number = Int(number) else { return nil }
        return try database.read { db in
            let sql = "SELECT record FROM versions WHERE function = ? AND number = ?"
            return try Data.fetchOne(db, sql: sql, arguments: [name, number])
                .map { try JSONDecoder().decode(FunctionRecord.self, from: $0) }
        }
    }

    /// The published versions of a function, oldest first.
    package func versions(
        of name: String,
        after number: Int = 0,
        limit: Int = .max
    ) throws(FunctionsError) -> [FunctionRecord] {
        try database.read { db in
            let sql = "SELECT record FROM versions WHERE function = ? AND number > ? ORDER BY number LIMIT ?"
            return try Data.fetchAll(db, sql: sql, arguments: [name, number, Int64(clamping: limit)])
                .map { try JSONDecoder().decode(FunctionRecord.self, from: $0) }
        }
    }

    /// Removes the oldest published versions until no more than `count` are left, but none that an alias leads to or that
    /// something is provisioned for, and not the newest.
    ///
    /// - Returns: how many went.
    package func trimVersions(of name: String, to count: Int) throws(FunctionsError) -> Int {
        try database.write { db in
            let sql = "SELECT number FROM versions WHERE function = ? ORDER BY number"
            let numbers = try Int.fetchAll(db, sql: sql, arguments: [name]).map { String($0) }
            let aliases = try Self.aliases(db, of: name)
            let provisioned = Set(try Self.provisioned(db, of: name).map(\.qualifier))
            let going = numbers.dropLast()
                .filter { number in !provisioned.contains(number) && !aliases.contains { $0.leads(to: number) } }
                .prefix(max(0, numbers.count - max(1, count)))
            for number in going { try Self.delete(db, name, number) }
            return going.count
        }
    }

    private static func delete(_ db: Database, _ name: String, _ number: String) throws {
        try forget(db, name, number)
        let sql = "DELETE FROM versions WHERE function = ? AND number = ?"
        try db.execute(sql: sql, arguments: [name, Int(number)])
    }

    /// Removes one published version, if no alias leads to it; `false` when there was none.
    package func deleteVersion(_ number: String, of name: String) throws(FunctionsError) -> Bool {
        guard FunctionRecord.number(number) != nil else { return false }
        return try database.write { db in
            let names = try Self.aliases(db, of: name).filter { $0.leads(to: number) }.map(\.name)
            guard names.isEmpty else {
                throw FunctionsError.conflict(
                    "Unable to delete version because the following aliases reference it: [\(names.joined(separator: ", "))]"
                )
            }
            try Self.delete(db, name, number)
            return db.changesCount > 0
        }
    }

    /// A function with everything that can be invoked of it, as it is at one moment.
    package func registered(_ name: String) throws(FunctionsError) -> RegisteredFunction? {
        try database.read { db in try Self.registered(db, name) }
    }

    static func registered(_ db: Database, _ name: String) throws -> RegisteredFunction? {
        guard let latest = try fetch(db, name) else { return nil }
        let versions = try Data.fetchAll(db, sql: "SELECT record FROM versions WHERE function = ?", arguments: [name])
            .map { try JSONDecoder().decode(FunctionRecord.self, from: $0) }
        return RegisteredFunction(
            latest: latest,
            versions: Dictionary(uniqueKeysWithValues: versions.map { ($0.version, $0) }),
            aliases: Dictionary(uniqueKeysWithValues: try aliases(db, of: name).map { ($0.name, $0) }),
            provisioned: try provisioned(db, of: name),
            events: try qualified(db, of: name),
            urls: try qualified(db, of: name)
        )
    }

    /// The digests of everything in the `CodeStore` that something needs.
    package func digests() throws(FunctionsError) -> Set<String> {
        try database.read { db in
            var digests: Set<String> = []
            for table in ["functions", "versions"] {
                for data in try Data.fetchAll(db, sql: "SELECT record FROM \(table)") {
                    digests.formUnion(try JSONDecoder().decode(FunctionRecord.self, from: data).digests)
                }
            }
            for data in try Data.fetchAll(db, sql: "SELECT record FROM layers WHERE record IS NOT NULL") {
                digests.insert(try JSONDecoder().decode(LayerRecord.self, from: data).sha256)
            }
            return digests
        }
    }
}
