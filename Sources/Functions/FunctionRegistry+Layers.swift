// SPDX-License-Identifier: Apache-2.0
import Foundation
import GRDB

/// Layers: each publication is a version with a number of its own.
extension FunctionRegistry {
    package func publishLayer(_ layer: LayerRecord) throws(FunctionsError) -> LayerRecord {
        try database.write { db in
            var layer = layer
            let sql = "SELECT MAX(number) FROM layers WHERE name = ?"
            layer.version = (try Int.fetchOne(db, sql: sql, arguments: [layer.name]) ?? 0) + 1
            layer.createdMs = Self.now()
            try db.execute(
                sql: "INSERT INTO layers (name, number, record) VALUES (?, ?, ?)",
                arguments: [layer.name, layer.version, try JSONEncoder().encode(layer)]
            )
            return layer
        }
    }

    package func layer(_ name: String, _ version: Int) throws(FunctionsError) -> LayerRecord? {
        try database.read { db in
            let sql = "SELECT record FROM layers WHERE name = ? AND number = ? AND record IS NOT NULL"
            return try Data.fetchOne(db, sql: sql, arguments: [name, version])
                .map { try JSONDecoder().decode(LayerRecord.self, from: $0) }
        }
    }

    /// All versions of all layers, or of one; by name, newest first.
    package func layers(_ name: String? = nil) throws(FunctionsError) -> [LayerRecord] {
        try database.read { db in
            let sql =
                "SELECT record FROM layers WHERE record IS NOT NULL AND name = IFNULL(?, name) ORDER BY name, number DESC"
            return try Data.fetchAll(db, sql: sql, arguments: [name])
                .map { try JSONDecoder().decode(LayerRecord.self, from: $0) }
        }
    }

    /// Functions that use it go on using it. Nothing is said when there was none.
    package func deleteLayer(_ name: String, _ version: Int) throws(FunctionsError) {
        try database.write { db in
            let sql = "UPDATE layers SET record = NULL WHERE name = ? AND number = ?"
            try db.execute(sql: sql, arguments: [name, version])
        }
    }
}
