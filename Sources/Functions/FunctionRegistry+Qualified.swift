// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB

/// What can be said of a function, or of one of its versions or aliases, apart from it.
package protocol QualifiedRecord: Codable, Sendable, Equatable {
    /// The table that it is kept in, by function and qualifier.
    static var table: String { get }
}

extension EventHandling: QualifiedRecord {
    package static var table: String { "event_handling" }
}

extension UrlRecord: QualifiedRecord {
    package static var table: String { "urls" }
}

extension FunctionRegistry {
    /// Everything that goes with its function, version or alias.
    static let qualifiedTables = ["provisioned", EventHandling.table, UrlRecord.table]

    static func addQualified(_ db: Database) throws {
        for name in [EventHandling.table, UrlRecord.table] {
            try db.create(table: name) { table in
                table.column("function", .text).notNull()
                table.column("qualifier", .text).notNull()
                table.column("record", .blob).notNull()
                table.primaryKey(["function", "qualifier"])
            }
        }
    }

    /// - Parameters:
    ///   - record: `nil` removes what was said.
    ///   - check: refuses what does not go with what is there, in the same transaction.
    package func set<Record: QualifiedRecord>(
        _ record: Record?,
        of function: String,
        _ qualifier: String,
        check: (RegisteredFunction) throws -> Void = { _ in }
    ) throws(FunctionsError) {
        try database.write { db in
            guard let registered = try Self.registered(db, function) else { throw FunctionsError.notFound(function) }
            guard registered.record(qualifier) != nil else {
                throw FunctionsError.notFound("\(function):\(qualifier)")
            }
            try check(registered)
            guard let record else {
                let sql = "DELETE FROM \(Record.table) WHERE function = ? AND qualifier = ?"
                return try db.execute(sql: sql, arguments: [function, qualifier])
            }
            try db.execute(
                sql: """
                    INSERT INTO \(Record.table) (function, qualifier, record) VALUES (?, ?, ?)
                    ON CONFLICT (function, qualifier) DO UPDATE SET record = excluded.record
                    """,
                arguments: [function, qualifier, try JSONEncoder().encode(record)]
            )
        }
    }

    /// By qualifier.
    static func qualified<Record: QualifiedRecord>(_ db: Database, of function: String) throws -> [String: Record] {
        let rows = try Row.fetchAll(
            db,
            sql: "SELECT qualifier, record FROM \(Record.table) WHERE function = ?",
            arguments: [function]
        )
        return Dictionary(
            uniqueKeysWithValues: try rows.map { row in
                (row["qualifier"], try JSONDecoder().decode(Record.self, from: row["record"]))
            }
        )
    }

    /// A version or an alias goes: nothing is said of it any more.
    static func forget(_ db: Database, _ function: String, _ qualifier: String) throws {
        for table in qualifiedTables {
            let sql = "DELETE FROM \(table) WHERE function = ? AND qualifier = ?"
            try db.execute(sql: sql, arguments: [function, qualifier])
        }
    }
}
