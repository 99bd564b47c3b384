// SPDX-License-Identifier: Apache-2.0

// Of Glibc alone, so that this module stays free of everything but arithmetic.
import func Glibc.exp2
import func Glibc.log2

/// A histogram with buckets of a constant ratio: quantiles of sizes and times over many octaves, in a few hundred bytes.
///
/// Old samples fade: whenever the weights reach `memory`, all are halved.
package struct LogHistogram: Sendable, Equatable, Codable {
    /// The upper edge of the first bucket.
    private var least: Double
    private var perOctave: Double
    private var weights: [Float]
    private static let memory: Float = 1000

    /// - Parameters:
    ///   - least: values up to this share one bucket.
    ///   - octaves: how many doublings are told apart; larger values share the last bucket.
    ///   - perOctave: buckets of one doubling.
    package init(least: Double, octaves: Int, perOctave: Int) {
        self.least = least
        self.perOctave = Double(perOctave)
        weights = Array(repeating: 0, count: octaves * perOctave + 1)
    }

    package private(set) var count = 0

    package mutating func add(_ value: Double) {
        let index = value <= least ? 0 : Int((log2(value / least) * perOctave).rounded(.up))
        weights[min(index, weights.count - 1)] += 1
        count += 1
        if weights.reduce(0, +) >= Self.memory { for index in weights.indices { weights[index] /= 2 } }
    }

    /// The upper edge of the bucket that holds the quantile; `nil` when nothing was added.
    package func quantile(_ share: Double) -> Double? {
        let total = weights.reduce(0, +)
        guard total > 0 else { return nil }
        var sum: Float = 0
        for (index, weight) in weights.enumerated() {
            sum += weight
            if sum >= Float(share) * total { return least * exp2(Double(index) / perOctave) }
        }
        return least * exp2(Double(weights.count - 1) / perOctave)
    }
}
