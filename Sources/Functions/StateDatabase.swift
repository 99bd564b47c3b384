// SPDX-License-Identifier: Apache-2.0
import GRDB

/// One SQLite file of the state directory: a change is durable before its call returns (WAL, `synchronous=FULL`).
final class StateDatabase: Sendable {
    private let pool: DatabasePool
    private let path: String

    /// Opens or creates the file, and looks whether it is whole: better refused now than wrong later.
    init(_ path: String, _ migrator: DatabaseMigrator) throws(FunctionsError) {
        self.path = path
        do {
            var configuration = Configuration()
            configuration.busyMode = .timeout(5)
            pool = try DatabasePool(path: path, configuration: configuration)
            // Not in `prepareDatabase`: a pool that is opened sets NORMAL on its writer after that, with which the last
            // commits can be lost in a power cut.
            try pool.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
            let verdict = try pool.read { db in try String.fetchOne(db, sql: "PRAGMA quick_check(1)") }
            guard verdict == "ok" else { throw FunctionsError.damaged(path: path, why: verdict ?? "no answer") }
            try migrator.migrate(pool)
        } catch {
            throw Self.wrap(error, path)
        }
    }

    /// What SQLite waits for at a commit; 2 is FULL.
    var synchronous: Int {
        (try? pool.writeWithoutTransaction { db in try Int.fetchOne(db, sql: "PRAGMA synchronous") }) ?? -1
    }

    /// One transaction.
    func write<Value>(_ body: (Database) throws -> Value) throws(FunctionsError) -> Value {
        do { return try pool.write(body) } catch { throw Self.wrap(error, path) }
    }

    func read<Value>(_ body: (Database) throws -> Value) throws(FunctionsError) -> Value {
        do { return try pool.read(body) } catch { throw Self.wrap(error, path) }
    }

    /// Folds the write-ahead log in first, so that a stopped daemon leaves a file that can be copied by itself.
    func close() {
        _ = try? pool.writeWithoutTransaction { db in try db.checkpoint(.truncate) }
        try? pool.close()
    }

    private static func wrap(_ error: any Error, _ path: String) -> FunctionsError {
        if let ours = error as? FunctionsError { return ours }
        guard let error = error as? DatabaseError else { return .storage("\(path): \(error)") }
        switch error.resultCode {
        case .SQLITE_FULL: return .diskFull(path: path)
        case .SQLITE_IOERR, .SQLITE_READONLY:
            return .diskFailed(path: path, why: error.message ?? "\(error)")
        case .SQLITE_NOTADB, .SQLITE_CORRUPT: return .damaged(path: path, why: error.message ?? "\(error)")
        default: return .storage("\(path): \(error)")
        }
    }
}
