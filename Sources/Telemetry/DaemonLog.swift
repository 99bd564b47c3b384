// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Logging
import Synchronization

/// How the daemon's own log looks, and what of it is written: one for all its loggers, which may change while they live.
package final class DaemonLog: Sendable {
    /// How an event becomes a line.
    package enum Style: Sendable, Equatable {
        /// For people: the time of their clock, the level in colour where the terminal has any.
        case pretty(colours: Bool)
        /// One object a line.
        case json
    }

    private let shown: Mutex<(level: Logger.Level, style: Style)>
    private let write: @Sendable (String) -> Void

    /// - Parameter write: takes each line with its end; standard error where nothing else is said.
    package init(
        level: Logger.Level,
        style: Style,
        write: @escaping @Sendable (String) -> Void = { DaemonLog.toStandardError($0) }
    ) {
        shown = Mutex((level, style))
        self.write = write
    }

    package func set(level: Logger.Level, style: Style) { shown.withLock { $0 = (level, style) } }

    package var level: Logger.Level { shown.withLock { $0.level } }

    package func handler() -> any LogHandler { Handler(log: self) }

    /// Pretty on a terminal; colours but with `NO_COLOR` or on a dumb one.
    package static func automatic(isTerminal: Bool, environment: [String: String]) -> Style {
        isTerminal ? .pretty(colours: hasColours(environment)) : .json
    }

    package static func hasColours(_ environment: [String: String]) -> Bool {
        (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
    }

    // One write a line: lines of several threads do not mix.
    private static func toStandardError(_ line: String) {
        var line = line
        _ = line.withUTF8 { unsafe Glibc.write(2, $0.baseAddress, $0.count) }
    }

    private func log(_ event: LogEvent, _ metadata: Logger.Metadata) {
        let fields = metadata.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
        let (now, message) = (WallClock.nowMs(), "\(event.message)")
        switch shown.withLock({ $0.style }) {
        case .json: write(Self.json(now, event.level, message, fields))
        case .pretty(let colours): write(Self.pretty(now, event.level, message, fields, colours: colours))
        }
    }

    private static func json(
        _ ms: Int64,
        _ level: Logger.Level,
        _ message: String,
        _ fields: [(String, String)]
    ) -> String {
        var bytes: [UInt8] = []
        JSONLine.append("{\"time\":", WallClock.iso8601(ms), to: &bytes)
        JSONLine.append(",\"level\":", level.rawValue, to: &bytes)
        JSONLine.append(",\"message\":", message, to: &bytes)
        for (key, value) in fields {
            bytes.append(UInt8(ascii: ","))
            JSONLine.append("", key, to: &bytes)
            JSONLine.append(":", value, to: &bytes)
        }
        bytes += "}\n".utf8
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func pretty(
        _ ms: Int64,
        _ level: Logger.Level,
        _ message: String,
        _ fields: [(String, String)],
        colours: Bool
    ) -> String {
        func coloured(_ code: String, _ text: String) -> String { colours ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text }
        let word = level.rawValue.uppercased()
        let colour =
            switch level {
            case .trace, .debug: "2"
            case .info: "32"
            case .notice: "36"
            case .warning: "33"
            case .error, .critical: "31;1"
            }
        // Messages of several lines, such as all that is wrong with a configuration, stay below their first.
        let text = message.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n    ")
        let tail = fields.map { " \(coloured("2", "\($0.0)="))\($0.1)" }.joined()
        let padding = String(repeating: " ", count: max(0, 7 - word.count))
        return "\(coloured("2", LocalTime.text(ms))) \(coloured(colour, word))\(padding) \(text)\(tail)\n"
    }

    private struct Handler: LogHandler {
        let log: DaemonLog
        /// What was said for this logger alone.
        private var own: Logger.Level?
        var metadata: Logger.Metadata = [:]

        init(log: DaemonLog) { self.log = log }

        var logLevel: Logger.Level {
            get { own ?? log.level }
            set { own = newValue }
        }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            log.log(event, metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }))
        }
    }
}
