// SPDX-License-Identifier: Apache-2.0
import GRDB

/// One SQLite file of the state directory: a change is durable before its call returns (WAL, `synchronous=FULL`).
final class StateDatabase: Sendable {
    private let pool: DatabasePool

    init(_ path: String, _ migrator: DatabaseMigrator) throws(FunctionsError) {
        do {
            var configuration = Configuration()
            configuration.prepareDatabase { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
            configuration.busyMode = .timeout(5)
            pool = try DatabasePool(path: path, configuration: configuration)
            try migrator.migrate(pool)
        } catch {
            throw .storage("\(path): \(error)")
        }
    }

    /// One transaction.
    func write<Value>(_ body: (Database) throws -> Value) throws(FunctionsError) -> Value {
        do { return try pool.write(body) } catch { throw Self.wrap(error) }
    }

    func read<Value>(_ body: (Database) throws -> Value) throws(FunctionsError) -> Value {
        do { return try pool.read(body) } catch { throw Self.wrap(error) }
    }

    func close() { try? pool.close() }

    private static func wrap(_ error: any Error) -> FunctionsError {
        error as? FunctionsError ?? .storage("\(error)")
    }
}
