// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Logging
import Policy
import Pool
import Settings
import Telemetry

// What one target knows, as another wants it.

extension LogLine {
    /// What a sandbox printed now.
    init(_ line: OutputLine, sandbox: SandboxID) {
        self.init(
            time: WallClock.iso8601(WallClock.nowMs()),
            requestId: line.requestID,
            sandbox: sandbox.description,
            message: String(decoding: line.bytes, as: UTF8.self)
        )
    }
}

extension Settings.Log {
    var threshold: Logger.Level { Logger.Level(rawValue: level) ?? .info }

    func style(_ environment: [String: String]) -> DaemonLog.Style {
        switch format {
        case .auto: DaemonLog.automatic(isTerminal: isatty(2) == 1, environment: environment)
        case .pretty: .pretty(colours: isatty(2) == 1 && DaemonLog.hasColours(environment))
        case .json: .json
        }
    }
}

extension Settings {
    /// What the pool has to know.
    var poolLimits: PoolLimits {
        PoolLimits(
            maxSandboxes: pools.maxSandboxes,
            idleAfter: reclaim.idleAfter,
            evictAfter: pools.evictAfter,
            reclaims: reclaim.mode == .auto,
            isMeasured: host.promises == .measured,
            prewarmedMost: pools.prewarm
        )
    }
}
