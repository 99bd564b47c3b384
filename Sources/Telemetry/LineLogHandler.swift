// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Logging

/// The daemon's own log, on standard error: one line an event.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]

    package init(level: Logger.Level) { logLevel = level }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var text = "\(WallClock.iso8601(WallClock.nowMs())) \(event.level) \(event.message)"
        for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 })
            .sorted(by: { $0.key < $1.key })
        {
            text += " \(key)=\(value)"
        }
        text += "\n"
        // One write a line: lines of several threads do not mix.
        _ = text.withUTF8 { unsafe write(2, $0.baseAddress, $0.count) }
    }
}
