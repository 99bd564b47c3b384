// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB
import Units

/// An event that was accepted for later, and what became of it.
package struct QueuedEvent: Sendable, Equatable {
    package enum State: String, Sendable, CaseIterable {
        /// Waits for its time.
        case queued
        case running
        /// Kept for a while with the function's answer.
        case succeeded
        /// Given up; kept until somebody retries or purges it.
        case failed
    }

    /// The request id: the same one for every attempt.
    package var id: String
    package var function: String
    package var arn: String
    package var payload: [UInt8]
    /// Where to the payload is carried, in place of running the function: the record of one of its events for a
    /// destination that is a file or an HTTP address.
    package var target: String?
    /// Accepted by a schedule's tick, and not from a caller.
    package var isScheduled = false
    package var clientContext: String?
    /// Its own size, in place of the function's.
    package var memory: Bytes?
    package var cpu: CPUQuota?
    package var timeout: Duration?
    package var traceID: String?
    /// W3C Trace Context of who accepted it: `traceparent` and `tracestate`.
    package var traceParent: String?
    package var traceState: String?
    package var acceptedMs: Int64
    /// Not run before this moment.
    package var dueMs: Int64
    package var state = State.queued
    /// Runs that came to an end of the function's own: an answer, an error, a timeout.
    package var attempts = 0
    /// Times in a row that it could not be run at all.
    package var delays = 0
    /// Why it waits again, or was given up.
    package var reason: String?
    /// The function's last answer or error document.
    package var result: [UInt8]?
    package var finishedMs: Int64?
    /// The version that ran last; while it is dealt with, and not on disk.
    package var executedVersion: String?

    package var kind: EventQueue.Kind { target == nil ? .runs : .deliveries }

    package init(id: String, function: String, arn: String, payload: [UInt8], acceptedMs: Int64) {
        self.id = id
        self.function = function
        self.arn = arn
        self.payload = payload
        self.acceptedMs = acceptedMs
        dueMs = acceptedMs
    }
}

/// Events that were accepted for later, on disk: once `accept` has returned, an event is run until it ends, whatever
/// happens to the daemon. Blocking.
package final class EventQueue: Sendable {
    private let database: StateDatabase

    /// Opens or creates `events.sqlite`. What was running when the last daemon ended is queued again.
    package init(stateDirectory: String) throws(FunctionsError) {
        database = try StateDatabase("\(stateDirectory)/events.sqlite", Self.migrator)
        try database.write { db in try db.execute(sql: "UPDATE events SET state = 'queued' WHERE state = 'running'") }
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("events") { db in
            try db.create(table: "events") { table in
                table.primaryKey("id", .text)
                table.column("function", .text).notNull()
                table.column("arn", .text).notNull()
                table.column("payload", .blob).notNull()
                table.column("client_context", .text)
                table.column("trace_id", .text)
                table.column("accepted_ms", .integer).notNull()
                table.column("due_ms", .integer).notNull()
                table.column("state", .text).notNull()
                table.column("attempts", .integer).notNull()
                table.column("delays", .integer).notNull()
                table.column("reason", .text)
                table.column("result", .blob)
                table.column("finished_ms", .integer)
                table.column("bytes", .integer).notNull()
            }
            try db.create(index: "events_due", on: "events", columns: ["state", "due_ms"])
            try db.create(index: "events_function", on: "events", columns: ["function", "accepted_ms"])
            // What the queue takes, kept by the database itself: a sum over all rows would be read at each acceptance.
            try db.create(table: "usage") { table in table.column("bytes", .integer).notNull() }
            try db.execute(
                sql: """
                    INSERT INTO usage VALUES (0);
                    CREATE TRIGGER events_in AFTER INSERT ON events
                        BEGIN UPDATE usage SET bytes = bytes + new.bytes; END;
                    CREATE TRIGGER events_out AFTER DELETE ON events
                        BEGIN UPDATE usage SET bytes = bytes - old.bytes; END;
                    CREATE TRIGGER events_size AFTER UPDATE OF bytes ON events
                        BEGIN UPDATE usage SET bytes = bytes + new.bytes - old.bytes; END;
                    """
            )
        }
        migrator.registerMigration("targets and ticks") { db in
            try db.alter(table: "events") { table in
                table.add(column: "target", .text)
                table.add(column: "scheduled", .boolean).notNull().defaults(to: false)
            }
            // The latest tick of each schedule that was accepted.
            try db.create(table: "ticks") { table in
                table.column("function", .text).notNull()
                table.column("schedule", .text).notNull()
                table.column("tick_ms", .integer).notNull()
                table.primaryKey(["function", "schedule"])
            }
        }
        migrator.registerMigration("traces") { db in
            try db.alter(table: "events") { table in
                table.add(column: "trace_parent", .text)
                table.add(column: "trace_state", .text)
            }
        }
        migrator.registerMigration("sizes") { db in
            try db.alter(table: "events") { table in
                table.add(column: "memory_bytes", .integer)
                table.add(column: "cpu_millis", .integer)
                table.add(column: "timeout_ms", .integer)
            }
        }
        return migrator
    }

    /// Bytes that are counted for an event beside its own.
    private static let overhead = 512

    // MARK: Events

    /// A tick of a schedule, in milliseconds since 1970.
    package struct Tick: Sendable, Hashable {
        package var function: String
        package var schedule: String
        package var ms: Int64

        package init(function: String, schedule: String, ms: Int64) {
            self.function = function
            self.schedule = schedule
            self.ms = ms
        }
    }

    /// Takes an event; when this returns it is on disk. One that is there already, by id, is left as it is.
    ///
    /// - Parameters:
    ///   - limit: what all events may take; the oldest answers go before anything is refused.
    ///   - tick: what it is the event of, remembered together with it.
    package func accept(_ event: QueuedEvent, limit: Bytes, tick: Tick? = nil) throws(FunctionsError) {
        try database.write { db in
            let size = Self.size(event)
            var used = try Self.used(db)
            while used + size > limit.count {
                let oldest = "SELECT id FROM events WHERE state = 'succeeded' ORDER BY finished_ms LIMIT 100"
                try db.execute(sql: "DELETE FROM events WHERE id IN (\(oldest))")
                guard db.changesCount > 0 else { throw FunctionsError.queueFull(limit: limit) }
                used = try Self.used(db)
            }
            try Self.insert(db, event)
            if let tick {
                try db.execute(
                    sql: "INSERT OR REPLACE INTO ticks (function, schedule, tick_ms) VALUES (?, ?, ?)",
                    arguments: [tick.function, tick.schedule, tick.ms]
                )
            }
        }
    }

    private static func insert(_ db: Database, _ event: QueuedEvent) throws {
        try db.execute(
            sql: """
                INSERT INTO events
                    (id, function, arn, payload, target, scheduled, client_context, trace_id, trace_parent, trace_state,
                     memory_bytes, cpu_millis, timeout_ms, accepted_ms, due_ms, state, attempts, delays, bytes)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, ?) ON CONFLICT (id) DO NOTHING
                """,
            arguments: [
                event.id, event.function, event.arn, Data(event.payload), event.target, event.isScheduled,
                event.clientContext, event.traceID, event.traceParent, event.traceState, event.memory?.count,
                event.cpu.map { Int64($0.millis) }, event.timeout?.milliseconds, event.acceptedMs, event.dueMs,
                size(event),
            ]
        )
    }

    private static func size(_ event: QueuedEvent) -> Int64 {
        Int64(event.payload.count + (event.result?.count ?? 0) + overhead)
    }

    /// The latest accepted tick of every schedule.
    package func ticks() throws(FunctionsError) -> [Tick] {
        try database.read { db in
            try Row.fetchAll(db, sql: "SELECT function, schedule, tick_ms FROM ticks")
                .map { Tick(function: $0["function"], schedule: $0["schedule"], ms: $0["tick_ms"]) }
        }
    }

    private static func used(_ db: Database) throws -> Int64 {
        try Int64.fetchOne(db, sql: "SELECT bytes FROM usage") ?? 0
    }

    /// What may be taken from the queue, each apart from the other: neither has to wait for the other's room.
    package enum Kind: Sendable, CaseIterable {
        /// Events that functions run.
        case runs
        /// Records that are carried to a file or an address.
        case deliveries
    }

    /// Takes events that are due and marks them as running; oldest first.
    ///
    /// - Parameter except: functions that run as many as they may; of deliveries the targets.
    package func claim(
        _ kind: Kind = .runs,
        now: Int64,
        limit: Int,
        except: Set<String> = []
    ) throws(FunctionsError) -> [QueuedEvent] {
        guard limit > 0 else { return [] }
        // For SQLite nothing, not even NULL, is in an empty list: what has no target has to be kept out by name.
        let condition = kind == .runs ? "target IS NULL AND function" : "target IS NOT NULL AND target"
        return try database.write { db in
            let marks = Array(repeating: "?", count: except.count).joined(separator: ", ")
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM events WHERE state = 'queued' AND due_ms <= ? AND \(condition) NOT IN (\(marks))
                    ORDER BY due_ms LIMIT ?
                    """,
                arguments: [now] + StatementArguments(except.sorted()) + [limit]
            )
            return try rows.map { row in
                var event = Self.event(row)
                event.state = .running
                try db.execute(sql: "UPDATE events SET state = 'running' WHERE id = ?", arguments: [event.id])
                return event
            }
        }
    }

    /// When the next event is due, in milliseconds since 1970; `nil` when none waits.
    package func nextDue() throws(FunctionsError) -> Int64? {
        try database.read { db in try Int64.fetchOne(db, sql: "SELECT MIN(due_ms) FROM events WHERE state = 'queued'") }
    }

    /// Writes what became of a run; one that was purged meanwhile stays away.
    ///
    /// - Parameter followers: events that follow from it, accepted in the same transaction and without regard to how
    ///   much there may be: what is told of an event that was accepted is not refused.
    package func settle(_ event: QueuedEvent, then followers: [QueuedEvent] = []) throws(FunctionsError) {
        try database.write { db in
            try db.execute(
                sql: """
                    UPDATE events SET state = ?, due_ms = ?, attempts = ?, delays = ?, reason = ?, result = ?,
                        finished_ms = ?, bytes = ? WHERE id = ?
                    """,
                arguments: [
                    event.state.rawValue, event.dueMs, event.attempts, event.delays, event.reason,
                    event.result.map { Data($0) }, event.finishedMs, Self.size(event), event.id,
                ]
            )
            for follower in followers { try Self.insert(db, follower) }
        }
    }

    // MARK: The operator's hand

    package func get(_ id: String) throws(FunctionsError) -> QueuedEvent? {
        try database.read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM events WHERE id = ?", arguments: [id]).map(Self.event)
        }
    }

    /// The latest events, newest first, without what they carry: that may be a thousand times as many megabytes.
    package func list(
        function: String? = nil,
        state: QueuedEvent.State? = nil,
        limit: Int = 1000
    ) throws(FunctionsError) -> [QueuedEvent] {
        try database.read { db in
            let (condition, arguments) = Self.filter(function, state.map { [$0] })
            let columns = try db.columns(in: "events").map(\.name).filter { $0 != "payload" && $0 != "result" }
            let sql = """
                SELECT \(columns.joined(separator: ", ")), x'' AS payload, NULL AS result FROM events
                WHERE \(condition) ORDER BY accepted_ms DESC, id LIMIT ?
                """
            return try Row.fetchAll(db, sql: sql, arguments: arguments + [limit]).map(Self.event)
        }
    }

    /// How many there are, by function and state.
    package func counts() throws(FunctionsError) -> [(function: String, state: QueuedEvent.State, count: Int)] {
        try database.read { db in
            try Row.fetchAll(db, sql: "SELECT function, state, COUNT(*) AS n FROM events GROUP BY function, state")
                .compactMap { row in
                    QueuedEvent.State(rawValue: row["state"]).map { (row["function"], $0, row["n"]) }
                }
        }
    }

    /// When the oldest event of each function was accepted that has not ended, in milliseconds since 1970.
    package func oldest() throws(FunctionsError) -> [String: Int64] {
        try database.read { db in
            let sql = """
                SELECT function, MIN(accepted_ms) AS ms FROM events WHERE state IN ('queued', 'running')
                GROUP BY function
                """
            return Dictionary(try Row.fetchAll(db, sql: sql).map { ($0["function"], $0["ms"]) }) { first, _ in first }
        }
    }

    /// Queues a given-up event again, as if it had just come; `false` when there is no such one.
    package func retry(_ id: String, now: Int64) throws(FunctionsError) -> Bool {
        try database.write { db in
            try db.execute(
                sql: """
                    UPDATE events SET state = 'queued', due_ms = ?, accepted_ms = ?, attempts = 0, delays = 0,
                        reason = NULL, finished_ms = NULL WHERE id = ? AND state = 'failed'
                    """,
                arguments: [now, now, id]
            )
            return db.changesCount > 0
        }
    }

    /// Removes events that do not run: those of one state, or all that have ended.
    package func purge(function: String? = nil, state: QueuedEvent.State? = nil) throws(FunctionsError) -> Int {
        guard state != .running else { throw .invalid("what runs cannot be purged") }
        return try database.write { db in
            let (condition, arguments) = Self.filter(function, state.map { [$0] } ?? [.succeeded, .failed])
            try db.execute(sql: "DELETE FROM events WHERE \(condition)", arguments: arguments)
            return db.changesCount
        }
    }

    /// Forgets answers that ended before `moment`, and ticks long before it.
    package func forget(before moment: Int64) throws(FunctionsError) {
        try database.write { db in
            try db.execute(sql: "DELETE FROM ticks WHERE tick_ms < ?", arguments: [moment - 7 * 86_400_000])
            try db.execute(
                sql: "DELETE FROM events WHERE state = 'succeeded' AND finished_ms < ?",
                arguments: [moment]
            )
        }
    }

    package func close() { database.close() }

    private static func filter(
        _ function: String?,
        _ states: [QueuedEvent.State]?
    ) -> (String, StatementArguments) {
        var conditions = ["1"]
        var arguments = StatementArguments()
        if let function {
            conditions.append("function = ?")
            arguments += [function]
        }
        if let states {
            conditions.append("state IN (\(states.map { _ in "?" }.joined(separator: ", ")))")
            arguments += StatementArguments(states.map(\.rawValue))
        }
        return (conditions.joined(separator: " AND "), arguments)
    }

    private static func event(_ row: Row) -> QueuedEvent {
        let payload: Data = row["payload"]
        let result: Data? = row["result"]
        var event = QueuedEvent(
            id: row["id"],
            function: row["function"],
            arn: row["arn"],
            payload: [UInt8](payload),
            acceptedMs: row["accepted_ms"]
        )
        event.target = row["target"]
        event.isScheduled = row["scheduled"]
        event.clientContext = row["client_context"]
        event.memory = (row["memory_bytes"] as Int64?).map { Bytes($0) }
        event.cpu = (row["cpu_millis"] as Int?).map { CPUQuota(millis: $0) }
        event.timeout = (row["timeout_ms"] as Int64?).map { .milliseconds($0) }
        event.traceID = row["trace_id"]
        event.traceParent = row["trace_parent"]
        event.traceState = row["trace_state"]
        event.dueMs = row["due_ms"]
        event.state = QueuedEvent.State(rawValue: row["state"]) ?? .queued
        event.attempts = row["attempts"]
        event.delays = row["delays"]
        event.reason = row["reason"]
        event.result = result.map { [UInt8]($0) }
        event.finishedMs = row["finished_ms"]
        return event
    }
}
