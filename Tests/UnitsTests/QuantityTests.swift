// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Units

@Suite("Quantities")
struct QuantityTests {
    @Test(
        "bytes are read in binary and decimal units",
        arguments: [
            ("256MiB", 268_435_456), ("1.5GiB", 1_610_612_736), ("64KB", 64_000), ("512B", 512), ("4096", 4096),
            ("1 MiB", 1_048_576), ("0B", 0),
        ] as [(String, Int64)]
    )
    func readsBytes(text: String, count: Int64) { #expect(Bytes(text)?.count == count) }

    @Test(
        "what is not a size is refused",
        arguments: [
            "", "MiB", "-1MiB", "1e3", "12 parsecs", "1..5MiB", ".5MiB", "5.MiB", "0x10", "99999999TiB", "256mib",
        ]
    )
    func refusesBytes(text: String) { #expect(Bytes(text) == nil) }

    @Test("bytes print exactly, in the largest unit that divides them")
    func printsBytes() {
        #expect(Bytes.mib(256).description == "256MiB")
        #expect(Bytes(1536 << 10).description == "1536KiB")
        #expect(Bytes(4097).description == "4097B")
        #expect(Bytes(43_306_189).rounded == "41.3MiB")
    }

    @Test(
        "CPU shares are read as cores or as a percentage",
        arguments: [("1.5", 1500), ("150%", 1500), ("0.25", 250), ("2", 2000)] as [(String, Int)]
    )
    func readsCPU(text: String, millis: Int) {
        #expect(CPUQuota(text)?.millis == millis)
    }

    @Test("a CPU share prints as cores")
    func printsCPU() {
        #expect(CPUQuota(millis: 1500).description == "1.5")
        #expect(CPUQuota(millis: 2000).description == "2")
        #expect(CPUQuota(millis: 250).description == "0.25")
    }

    @Test(
        "durations need a unit",
        arguments: [("250ms", 250), ("30s", 30_000), ("1.5m", 90_000), ("6h", 21_600_000)] as [(String, Int64)]
    )
    func readsDurations(text: String, milliseconds: Int64) {
        #expect(Duration(text: text)?.milliseconds == milliseconds)
    }

    @Test("what is not a duration is refused", arguments: ["30", "30 seconds", "s", "-1s", "1:30", ""])
    func refusesDurations(text: String) { #expect(Duration(text: text) == nil) }

    @Test("durations print in the largest unit that divides them")
    func printsDurations() {
        #expect(Duration.seconds(30).text == "30s")
        #expect(Duration.milliseconds(1500).text == "1500ms")
        #expect(Duration.seconds(600).text == "10m")
    }
}
