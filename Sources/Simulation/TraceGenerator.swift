// SPDX-License-Identifier: Apache-2.0
import Units

import func Glibc.cos
import func Glibc.exp
import func Glibc.log
import func Glibc.sin

/// A small generator of random numbers that gives the same ones for the same seed everywhere (SplitMix64).
package struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    mutating func uniform() -> Double { (Double(next() >> 11) + 0.5) / 9_007_199_254_740_992 }
    mutating func exponential(mean: Double) -> Double { -log(uniform()) * mean }
    mutating func normal() -> Double { (-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform()) }
    mutating func logNormal(median: Double, sigma: Double) -> Double { median * exp(sigma * normal()) }
}

/// Makes traces with the shape that published ones have: a few functions get most calls, most are called seldom, many by
/// timers, people come by day and in bursts.
///
/// Shape after the figures published with "Serverless in the Wild" (ATC 2020): calls a day spread over eight orders of
/// magnitude, nearly a third of functions on timers, memory around 160 MiB with a tail to 500, durations log-normal
/// around 0.7 s. No data of anybody is copied.
package struct TraceGenerator: Sendable {
    package var functions: Int
    package var hours: Double
    package var seed: UInt64

    package init(functions: Int = 100, hours: Double = 24, seed: UInt64 = 1) {
        self.functions = functions
        self.hours = hours
        self.seed = seed
    }

    private enum Pattern {
        case timer(period: Double, phase: Double)
        /// Calls a second at the mean, more by day.
        case people(rate: Double)
        /// Calm, then many at once.
        case bursts(pause: Double, calls: Double)
    }

    package func make() -> Trace {
        var random = SeededRandom(seed: seed)
        var made: [Trace.Function] = []
        var calls: [Trace.Call] = []
        for index in 0..<functions {
            let size = min(512, max(32, random.logNormal(median: 150, sigma: 0.45)))
            made.append(Trace.Function(name: "f\(index)", memory: .mib(Int64(size))))
            let length = min(30, max(0.01, random.logNormal(median: 0.7, sigma: 1.0)))
            let times = times(of: pattern(&random), &random)
            for time in times {
                let duration = min(60, length * random.logNormal(median: 1, sigma: 0.3))
                calls.append(Trace.Call(time: time, function: index, duration: duration))
            }
        }
        return Trace(functions: made, calls: calls)
    }

    private func pattern(_ random: inout SeededRandom) -> Pattern {
        let kind = random.uniform()
        if kind < 0.3 {
            let periods: [Double] = [60, 300, 300, 600, 900, 1800, 3600, 3600]
            let period = periods[Int(random.next() % UInt64(periods.count))]
            return .timer(period: period, phase: random.uniform() * period)
        }
        if kind < 0.55 {
            return .bursts(
                pause: random.logNormal(median: 1800, sigma: 1),
                calls: random.logNormal(median: 8, sigma: 1)
            )
        }
        // Heavy-tailed: the median is a call in twelve minutes, the busiest get several a second.
        return .people(rate: min(2, random.logNormal(median: 1.0 / 700, sigma: 2)))
    }

    private func times(of pattern: Pattern, _ random: inout SeededRandom) -> [Double] {
        let end = hours * 3600
        var times: [Double] = []
        switch pattern {
        case .timer(let period, let phase):
            var time = phase
            while time < end {
                times.append(time + random.uniform() * 0.5)
                time += period
            }
        case .people(let rate):
            var time = 0.0
            while true {
                time += random.exponential(mean: 1 / (rate * 1.8))
                guard time < end else { break }
                // By day 1.8 times the mean, by night a tenth.
                let level = 0.55 + 0.45 * sin(2 * .pi * (time / 86_400 - 0.25))
                if random.uniform() < level { times.append(time) }
            }
        case .bursts(let pause, let size):
            var time = random.uniform() * pause
            while time < end {
                var inside = time
                for _ in 0..<max(1, Int(random.exponential(mean: size))) {
                    inside += random.exponential(mean: 4)
                    if inside < end { times.append(inside) }
                }
                time = inside + random.exponential(mean: pause)
            }
        }
        return times
    }
}
