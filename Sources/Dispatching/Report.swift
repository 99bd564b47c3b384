// SPDX-License-Identifier: Apache-2.0
import RuntimeAPI
import Units

extension InvocationResult {
    /// What the platform writes about it behind what it printed.
    func lastLines(status: String?) -> [String] {
        var lines = ["END RequestId: \(requestID)", report(status: status)]
        if let failureNote { lines.insert(failureNote, at: 0) }
        if let contract, let grownTo {
            lines.append(
                "GROWN RequestId: \(requestID)\tMemory Size: \(contract.mebibytes) MB\tGrown To: \(grownTo.mebibytes) MB\tSteps: \(growthSteps)"
            )
        }
        return lines
    }

    /// Lambda's REPORT line: tab-separated, with a tab at the end, as log parsers expect it.
    func report(status: String?) -> String {
        let ms = Self.hundredths(duration)
        var line = "REPORT RequestId: \(requestID)\tDuration: \(ms) ms\tBilled Duration: \(billed) ms\t"
        line += "Memory Size: \(contract?.mebibytes ?? 0) MB\tMax Memory Used: \(peak?.mebibytes ?? 0) MB\t"
        if let initDuration { line += "Init Duration: \(Self.hundredths(initDuration)) ms\t" }
        if let status { line += "Status: \(status)\t" }
        return line
    }

    /// Milliseconds, the last one whole.
    private var billed: Int64 {
        (duration.milliseconds * 1_000_000 < nanoseconds(duration)) ? duration.milliseconds + 1 : duration.milliseconds
    }

    /// The same figures for subscribers of telemetry.
    func telemetryReport(status: String?) -> PlatformRecord.Report {
        func milliseconds(_ duration: Duration) -> Double { (duration.seconds * 100_000).rounded() / 100 }
        let metrics = PlatformRecord.Report.Metrics(
            durationMs: milliseconds(duration),
            billedDurationMs: billed,
            memorySizeMB: contract?.mebibytes ?? 0,
            maxMemoryUsedMB: peak?.mebibytes ?? 0,
            initDurationMs: initDuration.map { milliseconds($0) }
        )
        let word = status.map { TelemetryStatus(rawValue: $0) ?? .failure } ?? .success
        return PlatformRecord.Report(requestId: requestID, status: word, metrics: metrics)
    }

    /// What the log says about a failure that the function could not log itself.
    private var failureNote: String? {
        switch outcome {
        case .failure(.outOfMemory):
            "RequestId: \(requestID) Error: Runtime.OutOfMemory: limit \(contract?.rounded ?? "?"), peak \(peak?.rounded ?? "?")"
        case .failure(.timedOut(let document)): String(buffer: document)
        // Of an answer that has begun, its caller sees the end and not always the reason.
        case .failure(.functionError(let document)) where isStreamed: String(buffer: document)
        default: nil
        }
    }

    private func nanoseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
    }

    /// Milliseconds with two decimals.
    static func hundredths(_ duration: Duration) -> String {
        let value = Int64((duration.seconds * 100_000).rounded())
        let fraction = value % 100
        return "\(value / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }
}
