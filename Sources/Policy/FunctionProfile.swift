// SPDX-License-Identifier: Apache-2.0
import Units

/// What one request showed about its function.
package struct CallObservation: Sendable, Equatable {
    package var duration: Duration
    /// The highest `memory.current` of this call.
    package var peak: Bytes?
    /// Pages that had been taken and were needed again (`memory.stat`: `pswpin`, `zswpin`, `workingset_refault_*`).
    package var refaultedPages: Int64 = 0
    /// `memory.current` at its end.
    package var current: Bytes?

    package init(duration: Duration, peak: Bytes? = nil, refaultedPages: Int64 = 0, current: Bytes? = nil) {
        self.duration = duration
        self.peak = peak
        self.refaultedPages = refaultedPages
        self.current = current
    }
}

/// What is known of one function from its own past: how much memory a call needs, when calls come, what a wake costs.
///
/// Of bounded size (about 2 KiB), kept across restarts.
package struct FunctionProfile: Sendable, Equatable, Codable {
    package private(set) var calls = 0
    package private(set) var arrivals = ArrivalHistogram()
    /// Bytes, a call.
    private var peaks = LogHistogram(least: 1_048_576, octaves: 14, perOctave: 8)
    /// Microseconds, of calls that found their sandbox running-ready.
    private var warmDurations = LogHistogram(least: 50, octaves: 24, perOctave: 4)
    /// Microseconds from a start to its first request for work.
    package private(set) var coldStart: Double?
    /// Microseconds that a call took longer because its sandbox had been shrunk.
    package private(set) var wakePenalty: Double?
    /// Bytes resident at the end of a call that began shrunk: what the function really touches.
    package private(set) var workingSet: Double?
    /// Bytes of `memory.max` plus its compressed share after a shrink.
    package private(set) var shrunkSize: Double?

    /// How much of what can be taken is taken by a shrink that nobody waits for, 0.1 to 1.
    package private(set) var depth = 1.0
    /// How many times the usual idle time is waited before such a shrink.
    package private(set) var patience = 1.0
    /// Whether wakes have been slow enough for the working set to be brought back ahead of need.
    package private(set) var wantsPrefetch = false

    // What reclaim has done to it so far, for `fn mem` and the metrics.
    package private(set) var wakes = 0
    package private(set) var refaultedPages: Int64 = 0
    package private(set) var wakePenaltyTotal = 0.0

    package init() {}

    // MARK: Learning

    /// A request came, `interval` seconds after the one before it.
    package mutating func arrived(after interval: Double?) { if let interval { arrivals.add(interval) } }

    package mutating func started(in time: Duration) { Self.average(&coldStart, time.seconds * 1e6) }

    package mutating func shrank(to size: Bytes) { Self.average(&shrunkSize, Double(size.count)) }

    /// A call ended.
    ///
    /// - Parameters:
    ///   - isFirst: whether its sandbox was new; its time then says nothing about later ones.
    ///   - shrunkFor: for a call that woke a shrunk sandbox, how long that had been shrunk.
    ///   - premature: a wake sooner than this after the shrink was not worth it.
    package mutating func called(
        _ call: CallObservation,
        isFirst: Bool,
        wokeAfter shrunkFor: Duration?,
        premature: Duration,
        tuning: ReclaimTuning = ReclaimTuning()
    ) {
        calls += 1
        if let peak = call.peak { peaks.add(Double(peak.count)) }
        if let shrunkFor {
            woke(call, after: shrunkFor, premature: premature, tuning)
        } else if !isFirst {
            warmDurations.add(call.duration.seconds * 1e6)
        }
    }

    /// Additive increase, multiplicative decrease on what the wake cost (the control of TCP's window, Chiu and Jain 1989).
    private mutating func woke(
        _ call: CallObservation,
        after shrunkFor: Duration,
        premature: Duration,
        _ tuning: ReclaimTuning
    ) {
        let microseconds = call.duration.seconds * 1e6
        let penalty = max(0, microseconds - (warmDurations.quantile(0.5) ?? microseconds))
        wakes += 1
        wakePenaltyTotal += penalty
        refaultedPages += call.refaultedPages
        Self.average(&wakePenalty, penalty)
        if let current = call.current { Self.average(&workingSet, Double(current.count)) }
        let isSlow = penalty > max(10_000, tuning.wakeCost * (warmDurations.quantile(0.95) ?? 0))
        let isThick = Double(call.refaultedPages) > tuning.refaults * max(1, call.duration.seconds)
        if isSlow && call.refaultedPages > 0 || isThick {
            depth = max(0.1, depth * (1 - tuning.backoff))
            patience = min(120, patience * 2)
            wantsPrefetch = true
        } else {
            depth = min(1, depth + 0.1)
            patience = max(1, patience * 0.9)
        }
        if shrunkFor < premature { patience = min(120, patience * 1.5) }
    }

    private static func average(_ value: inout Double?, _ sample: Double) {
        value = value.map { $0 * 0.8 + sample * 0.2 } ?? sample
    }

    // MARK: Asking

    /// Bytes that 99 of 100 calls stay below; `nil` before enough calls were seen.
    package var peak: Bytes? {
        calls >= Policy.callsToTrust ? peaks.quantile(0.99).map { Bytes(Int64($0)) } : nil
    }

    /// The highest peak known, for advice.
    package var highestPeak: Bytes? { peaks.quantile(1).map { Bytes(Int64($0)) } }

    /// What is known of the peaks of its calls; `nil` before one was measured.
    package var knownPeaks: SizeAdvice.Peaks? {
        guard let half = peaks.quantile(0.5), let most = peaks.quantile(0.99), let highest = peaks.quantile(1) else {
            return nil
        }
        return SizeAdvice.Peaks(
            half: Bytes(Int64(half)),
            most: Bytes(Int64(most)),
            highest: Bytes(Int64(highest))
        )
    }

    /// Microseconds.
    package func warmDuration(_ share: Double) -> Double? { warmDurations.quantile(share) }
}

/// The numbers of the policy, with their evidence in one place.
package enum Policy {
    /// Microseconds for a page that comes back from compressed swap (5.3 to 6.0 measured).
    package static let pageFault = 6.0
    package static let pageSize = 4096.0
    /// Calls before a learnt peak is trusted.
    package static let callsToTrust = 20
    /// Nanoseconds until a sandbox whose shrink stopped is tried again: each try may hold a thread for 200 ms.
    package static let shrinkAgainAfter: Instant = 30_000_000_000

    /// What a busy sandbox is charged in `measured` mode: its learnt peak with headroom, never more than its contract.
    package static func measuredCharge(peak: Bytes, contract: Bytes) -> Bytes {
        min(contract, Slack.pageAligned(peak * 1.25 + .mib(16)))
    }

    /// How long a sandbox of this function is left idle before it is shrunk.
    ///
    /// The 90th percentile of its intervals, around the operator's `idle_after`: not sooner than two fifths of that, not
    /// later than twelve times it (2 s and 60 s for the default of 5 s), and longer after wakes that cost.
    package static func shrinkAfter(_ profile: FunctionProfile?, idleAfter: Duration, tier: HostTier) -> Duration {
        guard tier == .green else { return idleAfter * 0.4 }
        guard let profile else { return idleAfter }
        var wait = idleAfter
        if profile.arrivals.isRepresentative {
            let learnt = profile.arrivals.quantile(0.9).map { Duration.seconds($0) } ?? idleAfter
            wait = min(max(learnt, idleAfter * 0.4), idleAfter * 12)
        }
        return min(wait * profile.patience, max(wait, .seconds(600)))
    }

    /// How long an idle sandbox is kept: the operator's time, six times that once it is shrunk and nobody needs its room.
    ///
    /// Where the function's intervals are known, not less than the 99th percentile of them with a tenth added.
    package static func keepAfter(
        _ profile: FunctionProfile?,
        evictAfter: Duration,
        isShrunk: Bool,
        tier: HostTier
    ) -> Duration {
        guard tier == .green else { return evictAfter }
        var keep = isShrunk ? evictAfter * 6 : evictAfter
        if isShrunk, let arrivals = profile?.arrivals, arrivals.isRepresentative {
            keep = max(keep, min(.seconds((arrivals.quantile(0.99) ?? 0) * 1.1), .seconds(4 * 3600)))
        }
        return keep
    }

    /// When the next request may be expected, counted from the last: nine tenths of the shortest intervals.
    ///
    /// `nil` for a function that is not regular enough, or called so often that it is not shrunk between calls.
    package static func expectedNext(
        _ profile: FunctionProfile?,
        shrinkAfter: Duration
    ) -> (from: Duration, to: Duration)? {
        guard let arrivals = profile?.arrivals, arrivals.isRepresentative, let first = arrivals.quantile(0.05),
            let last = arrivals.quantile(0.95), first * 0.9 > shrinkAfter.seconds * 2, last < first * 3
        else { return nil }
        return (.seconds(first * 0.9), .seconds(last * 1.1))
    }

    /// What a shrink is worth: bytes times the expected rest of the idle time, over what a wake within 10 s would cost.
    package static func shrinkScore(freeable: Bytes, idle: Duration, profile: FunctionProfile?) -> Double {
        let rest = profile?.arrivals.expectedRest(after: idle.seconds) ?? max(idle.seconds, 1)
        let soon = profile?.arrivals.probability(within: 10, after: idle.seconds) ?? 10 / (10 + rest)
        let pages = (profile?.workingSet ?? Double(freeable.count)) / pageSize
        return Double(freeable.count) * rest / (soon * pages * pageFault + 100)
    }

    /// GreedyDual's value of keeping a sandbox: what its loss costs (microseconds a byte, times how often it is used).
    package static func keepValue(_ profile: FunctionProfile?, uses: Int, size: Bytes) -> Double {
        let loss = max(1000, (profile?.coldStart ?? 250_000) - (profile?.wakePenalty ?? 0))
        return Double(uses) * loss / Double(max(size.count, 1 << 20))
    }
}

extension Duration {
    static func * (time: Duration, factor: Double) -> Duration { .seconds(time.seconds * factor) }
}
