// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Testing
import Units

@testable import Policy

@Suite("What is learnt of a function")
struct LearningTests {
    private func profile(intervals: [Double]) -> FunctionProfile {
        var profile = FunctionProfile()
        for interval in intervals { profile.arrived(after: interval) }
        return profile
    }

    private func call(_ ms: Int64, pages: Int64 = 0, peak: Bytes = .mib(40)) -> CallObservation {
        CallObservation(duration: .milliseconds(ms), peak: peak, refaultedPages: pages, current: .mib(20))
    }

    @Test("idle time before a shrink follows the function's intervals, around the operator's word")
    func shrinkAfter() {
        let idleAfter = Duration.seconds(5)
        #expect(Policy.shrinkAfter(nil, idleAfter: idleAfter, tier: .green) == .seconds(5))
        #expect(Policy.shrinkAfter(profile(intervals: [1, 1, 1]), idleAfter: idleAfter, tier: .green) == .seconds(5))
        let steady = profile(intervals: Array(repeating: 20, count: 50))
        #expect(Policy.shrinkAfter(steady, idleAfter: idleAfter, tier: .green) == .seconds(21))
        let rapid = profile(intervals: Array(repeating: 0.1, count: 50))
        #expect(Policy.shrinkAfter(rapid, idleAfter: idleAfter, tier: .green) == .seconds(2))
        let rare = profile(intervals: Array(repeating: 3000, count: 50))
        #expect(Policy.shrinkAfter(rare, idleAfter: idleAfter, tier: .green) == .seconds(60))
        #expect(Policy.shrinkAfter(steady, idleAfter: idleAfter, tier: .yellow) == .seconds(2))
    }

    @Test("a wake that costs halves the depth of the next shrink; cheap ones bring it back by a tenth")
    func depth() {
        var profile = FunctionProfile()
        for _ in 0..<10 { profile.called(call(5), isFirst: false, wokeAfter: nil, premature: .seconds(5)) }
        profile.called(call(90, pages: 9000), isFirst: false, wokeAfter: .seconds(60), premature: .seconds(5))
        #expect(profile.depth == 0.5)
        #expect(profile.patience == 2)
        #expect(profile.wantsPrefetch)
        profile.called(call(6, pages: 100), isFirst: false, wokeAfter: .seconds(60), premature: .seconds(5))
        #expect(abs(profile.depth - 0.6) < 0.001)
        for _ in 0..<20 {
            profile.called(call(90, pages: 9000), isFirst: false, wokeAfter: .seconds(60), premature: .seconds(5))
        }
        #expect(profile.depth == 0.1)
        #expect(profile.wakes == 22)
    }

    @Test("what a wake may cost, and how much less is taken then, is the operator's word")
    func tuning() {
        func depth(_ call: CallObservation, _ tuning: ReclaimTuning) -> Double {
            var profile = FunctionProfile()
            for _ in 0..<10 {
                profile.called(self.call(100), isFirst: false, wokeAfter: nil, premature: .seconds(5))
            }
            profile.called(call, isFirst: false, wokeAfter: .seconds(60), premature: .seconds(5), tuning: tuning)
            return profile.depth
        }
        let slow = call(160, pages: 10)
        #expect(depth(slow, ReclaimTuning()) == 0.5)
        #expect(depth(slow, ReclaimTuning(backoff: 0.3)) == 0.7)
        #expect(depth(slow, ReclaimTuning(wakeCost: 1)) == 1)
        #expect(depth(call(105, pages: 10), ReclaimTuning(wakeCost: 0)) == 1, "10 ms are always free")
        let thick = call(100, pages: 3000)
        #expect(depth(thick, ReclaimTuning()) == 1)
        #expect(depth(thick, ReclaimTuning(refaults: 2000)) == 0.5)
        let long = CallObservation(duration: .seconds(2), refaultedPages: 3000)
        #expect(depth(long, ReclaimTuning(wakeCost: 100, refaults: 2000)) == 1, "1500 in a second")
    }

    @Test("a slow call that brought nothing back from swap is not blamed on the shrink")
    func blame() {
        var profile = FunctionProfile()
        for _ in 0..<10 { profile.called(call(5), isFirst: false, wokeAfter: nil, premature: .seconds(5)) }
        profile.called(call(900, pages: 0), isFirst: false, wokeAfter: .seconds(60), premature: .seconds(5))
        #expect(profile.depth == 1)
    }

    @Test("a peak is trusted after twenty calls, and charged with headroom, never above the contract")
    func peak() throws {
        var profile = FunctionProfile()
        for _ in 0..<19 { profile.called(call(5), isFirst: false, wokeAfter: nil, premature: .seconds(5)) }
        #expect(profile.peak == nil)
        profile.called(call(5), isFirst: false, wokeAfter: nil, premature: .seconds(5))
        let peak = try #require(profile.peak)
        #expect(peak >= .mib(40) && peak < .mib(44))
        #expect(Policy.measuredCharge(peak: .mib(40), contract: .mib(512)) == .mib(66))
        #expect(Policy.measuredCharge(peak: .mib(40), contract: .mib(50)) == .mib(50))
    }

    @Test("a regular function is expected, an irregular one is not")
    func expectation() throws {
        let regular = profile(intervals: Array(repeating: 300, count: 30))
        let next = try #require(Policy.expectedNext(regular, shrinkAfter: .seconds(60)))
        #expect(next.from < .seconds(330) && next.to > .seconds(330))
        var random = SplitMix(state: 7)
        let wild = profile(intervals: (0..<50).map { _ in Double(random.next() % 10_000) })
        #expect(Policy.expectedNext(wild, shrinkAfter: .seconds(60)) == nil)
    }

    @Test("probabilities and rests come from the intervals that are left")
    func remaining() throws {
        let both = profile(intervals: Array(repeating: 2, count: 50) + Array(repeating: 600, count: 50)).arrivals
        #expect(try #require(both.probability(within: 5, after: 0)) == 0.5)
        #expect(try #require(both.probability(within: 5, after: 10)) == 0)
        #expect(try #require(both.expectedRest(after: 10)) > 500)
    }

    @Test("it is the same after a restart, and of bounded size")
    func persistence() throws {
        var profile = profile(intervals: (0..<5000).map { Double($0 % 700) })
        for index in 0..<5000 {
            profile.called(
                call(Int64(index % 90), pages: Int64(index % 9000)),
                isFirst: false,
                wokeAfter: index % 3 == 0 ? .seconds(9) : nil,
                premature: .seconds(5)
            )
        }
        let data = try JSONEncoder().encode(profile)
        #expect(data.count < 16_000)
        #expect(try JSONDecoder().decode(FunctionProfile.self, from: data) == profile)
    }

    @Test("quantiles are within a bucket of the truth")
    func quantiles() throws {
        var histogram = LogHistogram(least: 1, octaves: 20, perOctave: 4)
        for value in 1...900 { histogram.add(Double(value)) }
        let median = try #require(histogram.quantile(0.5))
        #expect(median >= 450 && median < 450 * 1.2)
        #expect(LogHistogram(least: 1, octaves: 2, perOctave: 1).quantile(0.5) == nil)
    }
}
