// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore

/// What subscribers of the Telemetry API can ask for.
package enum TelemetryType: String, Sendable, CaseIterable {
    case platform
    /// Lines that the function prints.
    case function
    /// Lines that extensions print.
    case `extension`
}

/// What became of a start or of an invocation, in Lambda's words.
package enum TelemetryStatus: String, Sendable, Encodable {
    case success
    /// The function reported an error.
    case error
    /// Its process ended.
    case failure
    case timeout
}

/// The records of the Telemetry API (AWS, "Lambda Telemetry API Event schema reference", 2022-12-13).
///
/// Spans are left out, which the schema allows: the daemon does not see when a runtime begins to send a whole answer.
package enum PlatformRecord {
    package struct Tracing: Encodable, Sendable {
        var type = "X-Amzn-Trace-Id"
        var value: String

        package init(_ value: String) { self.value = value }
    }

    struct InitStart: Encodable {
        var initializationType: String
        var phase = "init"
        var runtimeVersion: String?
        var functionName: String
        var functionVersion: String
        var instanceId: String
        /// Bytes.
        var instanceMaxMemory: Int64
    }

    struct InitRuntimeDone: Encodable {
        var initializationType: String
        var phase = "init"
        var status: TelemetryStatus
        var errorType: String?
    }

    struct InitReport: Encodable {
        struct Metrics: Encodable { var durationMs: Double }
        var initializationType: String
        var phase = "init"
        var status = TelemetryStatus.success
        var metrics: Metrics
    }

    struct Start: Encodable {
        var requestId: String
        var version: String
        var tracing: Tracing?
    }

    struct RuntimeDone: Encodable {
        struct Metrics: Encodable {
            var durationMs: Double
            var producedBytes: Int?
        }
        var requestId: String
        var status: TelemetryStatus
        var errorType: String?
        var metrics: Metrics
    }

    /// The figures of the REPORT line.
    package struct Report: Encodable, Sendable {
        package struct Metrics: Encodable, Sendable {
            package var durationMs: Double
            package var billedDurationMs: Int64
            package var memorySizeMB: Int
            package var maxMemoryUsedMB: Int
            package var initDurationMs: Double?

            package init(
                durationMs: Double,
                billedDurationMs: Int64,
                memorySizeMB: Int,
                maxMemoryUsedMB: Int,
                initDurationMs: Double?
            ) {
                self.durationMs = durationMs
                self.billedDurationMs = billedDurationMs
                self.memorySizeMB = memorySizeMB
                self.maxMemoryUsedMB = maxMemoryUsedMB
                self.initDurationMs = initDurationMs
            }
        }
        package var requestId: String
        package var status: TelemetryStatus
        package var metrics: Metrics

        package init(requestId: String, status: TelemetryStatus, metrics: Metrics) {
            self.requestId = requestId
            self.status = status
            self.metrics = metrics
        }
    }

    struct Extension: Encodable {
        var name: String
        var state: String
        var events: [String]
    }

    struct Subscription: Encodable {
        var name: String
        var state = "Subscribed"
        var types: [String]
    }

    struct LogsDropped: Encodable {
        var reason = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
        var droppedRecords: Int
        var droppedBytes: Int
    }

    /// What happened, with the moment and the name of it, as JSON.
    ///
    /// - Parameter time: ISO 8601 with milliseconds.
    static func encode(_ type: String, at time: String, _ record: some Encodable) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Encoding strings and finite numbers cannot fail.
        let data = try? encoder.encode(Event(time: time, type: type, record: record))
        return ByteBuffer(bytes: data ?? Data("{}".utf8))
    }

    /// A line that was printed. Where the function logs in JSON (`LoggingConfig`), a line that is an object is one.
    static func encode(_ type: TelemetryType, at time: String, line: [UInt8], isJSON: Bool) -> ByteBuffer {
        if isJSON, line.first == UInt8(ascii: "{"),
            (try? JSONDecoder().decode(AnyObject.self, from: Data(line))) != nil
        {
            var buffer = ByteBuffer(string: #"{"record":"#)
            buffer.writeBytes(line)
            buffer.writeString(#","time":"\#(time)","type":"\#(type.rawValue)"}"#)
            return buffer
        }
        return encode(type.rawValue, at: time, String(decoding: line, as: UTF8.self))
    }

    private struct Event<Record: Encodable>: Encodable {
        var time: String
        var type: String
        var record: Record
    }

    /// Any JSON object: only that it is one counts.
    private struct AnyObject: Decodable {
        private struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }
        init(from decoder: any Decoder) throws { _ = try decoder.container(keyedBy: Key.self) }
    }
}
