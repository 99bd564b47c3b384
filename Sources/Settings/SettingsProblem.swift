// SPDX-License-Identifier: Apache-2.0

/// One thing that is wrong with the configuration, and where.
package struct SettingsProblem: Sendable, Equatable, CustomStringConvertible {
    /// A file's path, an environment variable or a flag.
    package var source: String
    package var line: Int?
    package var column: Int?
    package var message: String

    package init(source: String, line: Int? = nil, column: Int? = nil, message: String) {
        (self.source, self.line, self.column, self.message) = (source, line, column, message)
    }

    package var description: String {
        let place = [line, column].compactMap { $0.map { ":\($0)" } }.joined()
        return "\(source)\(place): error: \(message)"
    }
}

/// Everything that is wrong with the configuration: all problems at once, in the order of the file.
package struct SettingsErrors: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [SettingsProblem]
    package init(problems: [SettingsProblem]) { self.problems = problems }
    package var description: String { problems.map(\.description).joined(separator: "\n") }
}
