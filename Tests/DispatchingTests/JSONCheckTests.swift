// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore
import Testing

@testable import Dispatching

@Suite("JSON at a glance")
struct JSONCheckTests {
    private struct Anything: Decodable {
        init(from decoder: any Decoder) throws {}
    }

    private func isSeen(_ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            var glance = unsafe JSONGlance(bytes)
            return unsafe glance.isDocument()
        }
    }

    @Test(
        "what events look like is seen",
        arguments: [
            "{}", " [] ", #"{"a":[1,-2.5e+3,0.1E-2,true,false,null,"x\n"],"b":{"c":"ü"}}"#, "[[[0]], {}]\r\n",
        ]
    )
    func seen(text: String) { #expect(isSeen(Array(text.utf8))) }

    @Test(
        "what is no JSON is not",
        arguments: ["", "{", "[1,]", "[01]", "[1.]", "[.5]", "[+1]", "{,}", "[\"\t\"]", "[1] 2"]
    )
    func unseen(text: String) { #expect(!isSeen(Array(text.utf8))) }

    @Test("whatever is accepted at a glance the decoder accepts too: ten thousand broken events")
    func agrees() {
        let event = Array(#"{"a":[1,-2.5e+3,{"b":null}],"ü":"x\\y","t":true, "f":false}"#.utf8)
        var generator = Numbers(seed: 7)
        var seen = 0
        for _ in 0..<10_000 {
            var bytes = event
            for _ in 0...Int.random(in: 0..<2, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes.remove(at: place)
                case 1: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                default: bytes.insert(event[Int.random(in: 0..<event.count, using: &generator)], at: place)
                }
            }
            guard isSeen(bytes.filter { $0 != 0 }) else { continue }
            seen += 1
            let data = Data(bytes.filter { $0 != 0 })
            #expect(throws: Never.self) { _ = try JSONDecoder().decode(Anything.self, from: data) }
        }
        #expect(seen > 100, "most are refused, by the decoder's word")
    }

    /// Knuth's MMIX generator: the same numbers in every run.
    private struct Numbers: RandomNumberGenerator {
        var seed: UInt64

        mutating func next() -> UInt64 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return seed ^ seed >> 33
        }
    }
}
