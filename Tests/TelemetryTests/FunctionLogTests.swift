// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Synchronization
import Testing
import Units

@testable import Telemetry

@Suite("A function's log")
struct FunctionLogTests {
    private func line(_ n: Int) -> LogLine {
        LogLine(time: WallClock.iso8601(Int64(n) * 1000), requestId: "r", sandbox: "s", message: "line \(n)")
    }

    private func withLog(retain: Bytes, _ body: (FunctionLog, String) throws -> Void) throws {
        let directory = "/tmp/ebb-log-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(try FunctionLog(directory: directory, retain: retain), directory)
    }

    @Test("is read back, from a time on, or its last lines")
    func reading() throws {
        try withLog(retain: .mib(1)) { log, _ in
            for n in 0..<10 { log.append(line(n), function: "f") }
            #expect(log.read("f").map(\.message) == (0..<10).map { "line \($0)" })
            #expect(log.read("f", .init(tail: 2)).map(\.message) == ["line 8", "line 9"])
            #expect(log.read("f", .init(since: WallClock.iso8601(7000))).count == 3)
            #expect(log.read("g").isEmpty)
        }
    }

    @Test("is read from its end, over both files and lines of any length")
    func readingBackwards() throws {
        try withLog(retain: .mib(1)) { log, _ in
            let lengths = [0, 1, 70_000, 3, 65_536, 65_535] + Array(repeating: 300, count: 2500)
            let messages = lengths.enumerated().map { "\($0) " + String(repeating: "y", count: $1) }
            for message in messages {
                log.append(LogLine(time: "t", requestId: nil, sandbox: nil, message: message), function: "f")
            }
            let kept = log.read("f").map(\.message)
            #expect(kept.count > 1500 && kept == Array(messages.suffix(kept.count)))
            #expect(log.read("f", .init(tail: 1400)).map(\.message) == Array(messages.suffix(1400)))
        }
    }

    @Test("keeps every character as it was printed")
    func characters() throws {
        try withLog(retain: .mib(1)) { log, _ in
            let odd = "\"quoted\" \\ tab\t bell\u{7} null\u{0} \u{1F418} é \u{7F}"
            log.append(LogLine(time: "t", requestId: nil, sandbox: nil, message: odd), function: "f")
            #expect(log.hasPending)
            log.flush()
            #expect(!log.hasPending)
            #expect(log.read("f").map(\.message) == [odd])
        }
    }

    @Test("never grows beyond what is to be kept, and keeps the newest")
    func bounded() throws {
        try withLog(retain: .kib(16)) { log, directory in
            for n in 0..<2000 { log.append(line(n), function: "f") }
            let files = try FileManager.default.contentsOfDirectory(atPath: directory)
            let sizes = files.compactMap {
                try? FileManager.default.attributesOfItem(atPath: "\(directory)/\($0)")[.size] as? Int
            }
            #expect(sizes.reduce(0, +) <= 16 << 10)
            #expect(log.read("f").last?.message == "line 1999")
        }
    }

    @Test("stays within its bound also where the full file cannot be put aside")
    func stuck() throws {
        try withLog(retain: .kib(16)) { log, directory in
            try Directory.makeAll("\(directory)/f.log.1/in-the-way")
            for n in 0..<500 { log.append(line(n), function: "f") }
            log.flush()
            let size = try FileManager.default.attributesOfItem(atPath: "\(directory)/f.log")[.size] as? Int
            #expect((1...(8 << 10)).contains(try #require(size)))
            try FileManager.default.removeItem(atPath: "\(directory)/f.log.1")
            log.append(line(500), function: "f")
            #expect(log.read("f").last?.message == "line 500")
        }
    }

    @Test("never waits for the disk, holds a bounded amount meanwhile, and says what was lost")
    func stalled() throws {
        let directory = "/tmp/ebb-log-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let waiting = Mutex<[@Sendable () -> Void]>([])
        let log = try FunctionLog(directory: directory, retain: .mib(8)) { body in waiting.withLock { $0.append(body) }
        }
        let long = String(repeating: "x", count: 1000)
        for n in 0..<3000 {
            log.append(LogLine(time: "t", requestId: nil, sandbox: nil, message: "\(n) \(long)"), function: "f")
        }
        log.append(line(1), function: "other")
        #expect(waiting.withLock { $0.count } == 1, "one writes, however much comes")
        for body in waiting.withLock({ $0 }) { body() }
        let lines = log.read("f").map(\.message)
        #expect((1000..<1100).contains(lines.count))
        #expect(lines.first?.hasPrefix("0 ") == true)
        #expect(
            lines.last
                == "\(3001 - lines.count) lines were not kept: the disk that logs are on did not take them in time"
        )
        #expect(log.read("other").map(\.message) == ["line 1"])
        log.append(line(2), function: "f")
        #expect(log.read("f").last?.message == "line 2", "what comes after is kept again")
    }

    @Test("tells those who follow it, until they stop")
    func following() throws {
        try withLog(retain: .mib(1)) { log, _ in
            let seen = Mutex<[String]>([])
            let follow = { (most: Int) in
                log.readAndFollow("f", .init(tail: 1)) { line in
                    seen.withLock { seen in
                        seen.append(line.message)
                        return seen.count < most
                    }
                }
            }
            for n in 0..<3 { log.append(line(n), function: "f") }
            let (old, token) = follow(100)
            #expect(old.map(\.message) == ["line 2"], "none is left out between the old ones and the new ones")
            log.append(line(3), function: "f")
            log.append(line(4), function: "other")
            log.unfollow(token)
            log.append(line(5), function: "f")
            #expect(seen.withLock { $0 } == ["line 3"])
            // One that has enough is not asked again.
            _ = follow(2)
            for n in 6..<9 { log.append(line(n), function: "f") }
            #expect(seen.withLock { $0 } == ["line 3", "line 6"])
        }
    }

    @Test("of a function that is gone is not begun again by what its sandboxes still print")
    func removed() throws {
        try withLog(retain: .mib(1)) { log, directory in
            let isThere = Atomic(true)
            log.keepOnly { $0 == "f" && isThere.load(ordering: .relaxed) }
            log.append(line(1), function: "f")
            log.append(line(1), function: "g")
            log.flush()
            let begun = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(begun == ["f.log"])
            isThere.store(false, ordering: .relaxed)
            log.remove("f")
            log.append(line(2), function: "f")
            log.flush()
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.isEmpty)
            isThere.store(true, ordering: .relaxed)
            log.append(line(3), function: "f")
            #expect(log.read("f").map(\.message) == ["line 3"])
        }
    }
}
