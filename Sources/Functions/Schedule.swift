// SPDX-License-Identifier: Apache-2.0
import Crypto

/// When a function is run by itself, and with what.
package struct Schedule: Codable, Sendable, Equatable {
    package var name: String
    /// As it was written; one that `ScheduleExpression` has read before.
    package var expression: String
    /// JSON; `nil` is an event that names the schedule.
    package var input: String?
    /// When it was deployed, in milliseconds since 1970: what would have been before is not made up for.
    package var sinceMs: Int64 = 0

    package init(name: String, expression: String, input: String? = nil, sinceMs: Int64 = 0) {
        self.name = name
        self.expression = expression
        self.input = input
        self.sinceMs = sinceMs
    }

    /// The id of the event of one tick: the same whoever works it out, so that a tick is accepted once. A UUID of
    /// version 8 (RFC 9562), from SHA-256.
    package func eventID(of function: String, tickMs: Int64) -> String {
        let text = "schedule\0\(function)\0\(name)\0\(tickMs / 60_000)"
        var bytes = Array(SHA256.hash(data: Array(text.utf8)).prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        let hex = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { hex[$0].joined() }.joined(separator: "-")
    }
}

extension Schedule {
    /// Of one function.
    private static let limit = 100
    private static let inputLimit = 65_536

    /// The `schedules` section of `function.yaml`. One without a name is called after its place in the list.
    static func list(_ sections: [StrictYAML]) throws(FunctionsError) -> [Schedule] {
        var schedules: [Schedule] = []
        for (index, yaml) in sections.enumerated() {
            guard index < limit else { throw yaml.problem("a function has at most \(limit) schedules", "cron") }
            guard let text = try yaml.string("cron") else {
                throw yaml.problem("a schedule needs when it runs, such as `cron: \"*/5 * * * *\"`", "cron")
            }
            do throws(ScheduleProblem) {
                _ = try ScheduleExpression(text)
            } catch {
                throw yaml.problem(error.description, "cron")
            }
            let name = try yaml.string("name") ?? "schedule-\(index + 1)"
            do { try FunctionSpec.checkName(name) } catch {
                throw yaml.problem("expected 1 to 64 letters, digits, '-' and '_', got '\(name)'", "name")
            }
            guard !schedules.contains(where: { $0.name == name }) else {
                throw yaml.problem("there are two schedules of the name '\(name)'", "name")
            }
            let input = try yaml.json("input", limit: inputLimit)
            schedules.append(Schedule(name: name, expression: text, input: input))
        }
        return schedules
    }

    /// A manifest's schedules; those that were there before go on as if nothing had happened.
    ///
    /// - Parameter now: milliseconds since 1970.
    package static func taking(_ manifest: [Schedule], over old: [Schedule], now: Int64) -> [Schedule] {
        manifest.map { schedule in
            var schedule = schedule
            let before = old.first { $0.name == schedule.name && $0.expression == schedule.expression }
            schedule.sinceMs = before?.sinceMs ?? now
            return schedule
        }
    }
}
