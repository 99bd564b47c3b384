// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What a runtime that was started ahead is told when it becomes a function's: `{"environment": {"NAME": "value"}}`.
enum AssignmentDocument {
    private struct Document: Encodable {
        var environment: [String: String]
    }

    static func make(_ environment: [String: String]) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys  // as the environment of a start of its own is
        // Encoding strings cannot fail.
        let data = (try? encoder.encode(Document(environment: environment))) ?? Data("{}".utf8)
        return String(decoding: data, as: UTF8.self)
    }
}
