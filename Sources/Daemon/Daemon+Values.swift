// SPDX-License-Identifier: Apache-2.0
import Functions
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

extension Logger {
    /// What a function printed, among what the daemon writes.
    func show(_ line: LogLine, of function: String) {
        info(
            "\(line.message)",
            metadata: [
                "function": "\(function)", "sandbox": "\(line.sandbox ?? "")", "requestId": "\(line.requestId ?? "")",
            ]
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
            freezeAfter: pools.freezeAfter,
            reclaims: reclaim.mode == .auto,
            observes: reclaim.mode == .observe,
            tuning: ReclaimTuning(
                wakeCost: reclaim.target,
                refaults: reclaim.refaults,
                backoff: reclaim.backoff,
                step: reclaim.step,
                floor: reclaim.floor,
                swapStop: reclaim.swapStop,
                diskStop: reclaim.ioTarget,
                growHeadroom: reclaim.growHeadroom,
                growStep: reclaim.growStep,
                someStop: reclaim.hostPressure.some,
                fullStop: reclaim.hostPressure.full
            ),
            isMeasured: host.promises == .measured,
            prewarmedMost: pools.prewarm,
            prewarmedMostByRuntime: pools.prewarmByRuntime
        )
    }

    var codeLimits: CodeLimits { CodeLimits(archive: limits.code, unpacked: limits.unpackedCode) }

    var poolPace: PoolPace {
        PoolPace(
            interval: reclaim.interval,
            stallWindow: reclaim.hostPressure.over,
            hintTimeout: reclaim.hintTimeout
        )
    }
}
