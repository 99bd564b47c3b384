// SPDX-License-Identifier: Apache-2.0

/// How long a function is left alone between two requests: 60 bins of a second, then 240 of a minute, and the rest.
///
/// After "Serverless in the Wild" (Shahrad et al., ATC 2020), with seconds added, since a shrink pays within seconds.
package struct ArrivalHistogram: Sendable, Equatable, Codable {
    private static let seconds = 60
    private static let minutes = 240
    private var bins = [Float](repeating: 0, count: Self.seconds + Self.minutes)
    private var beyond: Float = 0
    /// Of 5, 90, 95 and 99 in a hundred: asked for each sandbox ten times a second, worked out once a request.
    private var known: [Double?] = [nil, nil, nil, nil]
    private static let shares = [0.05, 0.9, 0.95, 0.99]
    private static let memory: Float = 1000

    package init() {}

    /// The weight of all intervals.
    package private(set) var count: Float = 0

    /// - Parameter interval: seconds.
    package mutating func add(_ interval: Double) {
        if let bin = Self.bin(interval) { bins[bin] += 1 } else { beyond += 1 }
        count += 1
        if count >= Self.memory {
            for index in bins.indices { bins[index] /= 2 }
            beyond /= 2
            count /= 2
        }
        known = Self.shares.map { measure($0) }
    }

    private static func bin(_ interval: Double) -> Int? {
        if interval < Double(seconds) { return max(0, Int(interval)) }
        let minute = Int(interval / 60) - 1
        return minute < minutes ? seconds + minute : nil
    }

    /// The upper edge of a bin, in seconds.
    private static func edge(_ bin: Int) -> Double {
        bin < seconds ? Double(bin + 1) : Double((bin - seconds + 2) * 60)
    }

    /// Whether there is enough to go by: ten intervals, and not most of them longer than what is told apart.
    package var isRepresentative: Bool { count >= 10 && beyond < count / 2 }

    /// Seconds within which a share of all intervals ended; `nil` when that is beyond four hours, or nothing is known.
    package func quantile(_ share: Double) -> Double? {
        if let index = Self.shares.firstIndex(of: share) { return known[index] }
        return measure(share)
    }

    private func measure(_ share: Double) -> Double? {
        let total = count
        guard total > 0 else { return nil }
        var sum: Float = 0
        for (bin, weight) in bins.enumerated() {
            sum += weight
            if sum >= Float(share) * total { return Self.edge(bin) }
        }
        return nil
    }

    /// How probable it is that a request comes within `window` seconds, after `idle` seconds without one.
    package func probability(within window: Double, after idle: Double) -> Double? {
        guard isRepresentative else { return nil }
        let (all, soon) = (weight(after: idle), weight(after: idle) - weight(after: idle + window))
        return all > 0 ? Double(soon / all) : 0
    }

    /// How many more seconds it stays idle, on average, after `idle` seconds; those beyond count as eight hours.
    package func expectedRest(after idle: Double) -> Double? {
        guard isRepresentative else { return nil }
        var (sum, weights): (Double, Double) = (8 * 3600 * Double(beyond), Double(beyond))
        for (bin, weight) in bins.enumerated() where weight > 0 && Self.edge(bin) > idle {
            sum += Double(weight) * (Self.edge(bin) - idle)
            weights += Double(weight)
        }
        return weights > 0 ? sum / weights : nil
    }

    private func weight(after idle: Double) -> Float {
        var sum = beyond
        for (bin, weight) in bins.enumerated() where Self.edge(bin) > idle { sum += weight }
        return sum
    }
}
