// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("Advice on sizes")
struct SizeAdviceTests {
    private func profile(_ peaks: [Bytes?]) -> FunctionProfile {
        var profile = FunctionProfile()
        for peak in peaks {
            let call = CallObservation(duration: .milliseconds(5), peak: peak)
            profile.called(call, isFirst: false, wokeAfter: nil, premature: .seconds(1))
        }
        return profile
    }

    @Test("nothing is said from few calls, nor where memory is not measured")
    func silence() {
        #expect(SizeAdvice(nil, memory: .mib(128)).verdict == .tooFewCalls)
        let few = SizeAdvice(profile([Bytes?](repeating: .mib(30), count: 19)), memory: .mib(128))
        #expect((few.verdict, few.suggestion, few.calls) == (.tooFewCalls, nil, 19))
        #expect(SizeAdvice(profile([Bytes?](repeating: nil, count: 40)), memory: .mib(128)).verdict == .notMeasured)
    }

    @Test("a function that needs little is told what to set and what that saves")
    func lower() throws {
        let advice = SizeAdvice(profile([Bytes?](repeating: .mib(30), count: 40)), memory: .mib(512))
        #expect(advice.verdict == .lower)
        let suggestion = try #require(advice.suggestion)
        // Peaks are known to a twelfth; then a quarter and 16 MiB on top, in steps of 8 MiB.
        #expect(suggestion >= .mib(54) && suggestion <= .mib(64))
        #expect(suggestion.count % (8 << 20) == 0)
        #expect(advice.saving == .mib(512) - suggestion)
    }

    @Test("one call that needed more is not forgotten")
    func outlier() throws {
        let peaks = [Bytes?](repeating: .mib(30), count: 200) + [.mib(300)]
        let advice = SizeAdvice(profile(peaks), memory: .mib(512))
        #expect(try #require(advice.suggestion) >= .mib(300))
        #expect(try #require(advice.peaks).half < .mib(34))
    }

    @Test("what fits is left alone, and what comes up to its limit is to have more")
    func keepAndRaise() throws {
        #expect(SizeAdvice(profile([Bytes?](repeating: .mib(80), count: 40)), memory: .mib(128)).verdict == .keep)
        let tight = SizeAdvice(profile([Bytes?](repeating: .mib(127), count: 40)), memory: .mib(128))
        #expect(tight.verdict == .raise)
        #expect(try #require(tight.suggestion) > .mib(128))
        #expect(tight.saving == nil)
    }
}
