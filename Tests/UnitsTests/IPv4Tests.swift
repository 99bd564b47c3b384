// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Units

@Suite("IPv4 addresses and blocks")
struct IPv4Tests {
    @Test(
        "a block is read and printed as it is written",
        arguments: ["0.0.0.0/0", "10.0.0.0/8", "169.254.169.254", "172.16.0.0/12", "255.255.255.255"]
    )
    func roundTrip(text: String) { #expect(IPv4Block(text)?.description == text) }

    @Test(
        "what is no block is refused, with bits behind the prefix and numbers that others read as octal",
        arguments: [
            "", "10", "10.0.0", "10.0.0.0.0", "10.0.0.256", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.1/8",
            "010.0.0.0/8", "10.0.0.0/8/8", "::1", "a.b.c.d", "10.0.0.0 /8", "+1.0.0.0", "10.0.0.0/+8",
        ]
    )
    func refuses(text: String) { #expect(IPv4Block(text) == nil) }

    @Test("a block contains its first and last address and not the ones beside it")
    func edges() throws {
        let block = try #require(IPv4Block("172.16.0.0/12"))
        for (text, isInside) in [
            ("172.15.255.255", false), ("172.16.0.0", true), ("172.31.255.255", true), ("172.32.0.0", false),
        ] {
            let address = try #require(IPv4Address(text))
            #expect(block.contains(address) == isInside, "\(text)")
        }
        let (everything, last) = (try #require(IPv4Block("0.0.0.0/0")), IPv4Address(raw: .max))
        #expect(everything.contains(last))
        #expect(block.count == 1 << 20)
    }

    @Test("merging drops what is within another block, whatever the order, and keeps neighbours apart")
    func merge() throws {
        let blocks = try #require(IPv4Block.list("10.1.0.0/16, 10.0.0.0/8,9.0.0.0/8,10.0.0.0/8, 203.0.113.7"))
        #expect(IPv4Block.merged(blocks).map(\.description) == ["9.0.0.0/8", "10.0.0.0/8", "203.0.113.7"])
        #expect(IPv4Block.merged(blocks.reversed()) == IPv4Block.merged(blocks))
    }

    @Test("a list with one wrong entry is no list; an empty one is")
    func lists() {
        #expect(IPv4Block.list("10.0.0.0/8,nonsense") == nil)
        #expect(IPv4Block.list("") == [])
    }

    @Test("egress is more than none")
    func order() { #expect(NetworkAccess.none < .egress && !(NetworkAccess.egress < .none)) }
}
