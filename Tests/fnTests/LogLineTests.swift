// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Linux
import Testing

@testable import fn

@Suite("fn logs")
struct LogLineTests {
    private static let id = "8e0c1f5a-0000-4000-8000-000000000000"

    private func line(_ message: String, request: String? = id) -> LogLineView {
        LogLineView(time: "2026-11-23T19:17:00.123Z", requestId: request, sandbox: "f-1", message: message)
    }

    @Test("shows local time, the request and the line, without a colour where none is wanted")
    func plain() {
        let time = LocalTime.text(1_795_461_420_123)
        #expect(LogLine.pretty(line("hello"), colours: false) == "\(time) 8e0c1f5a hello")
        #expect(LogLine.pretty(line("hello", request: nil), colours: false) == "\(time) -        hello")
    }

    @Test("colours by who speaks: the function, the platform, the platform about an error")
    func colours() {
        let cases: [(String, LogLine.Source)] = [
            ("hello", .function), ("START RequestId: other", .function),
            ("START RequestId: \(Self.id) Version: 1", .platform),
            ("REPORT RequestId: \(Self.id)\tDuration: 1 ms\t", .platform),
            ("REPORT RequestId: \(Self.id)\tDuration: 1 ms\tStatus: timeout\t", .failure),
            ("RequestId: \(Self.id) Error: Runtime.OutOfMemory", .failure),
        ]
        for (message, source) in cases {
            #expect(LogLine.Source(line(message)) == source, "\(message)")
            let text = LogLine.pretty(line(message), colours: true)
            #expect(text.hasPrefix("\u{1B}[2m") && text.contains("\u{1B}[31m") == (source == .failure))
            #expect(text.contains("\u{1B}[36m") == (source == .platform))
        }
    }

    @Test("lets no function steer the terminal")
    func controls() {
        let text = LogLine.pretty(line("a\tb\u{1B}]0;title\u{7}\r\u{9B}2J é"), colours: false)
        #expect(text.hasSuffix("a\tb\\x1b]0;title\\x07\\x0d\\x9b2J é"))
    }

    @Test("times are read as they are written", arguments: [0, 951_782_400_000, 1_795_461_420_123, 4_107_542_399_999])
    func times(ms: Int64) {
        #expect(WallClock.ms(iso8601: WallClock.iso8601(ms)) == ms)
        #expect(WallClock.ms(iso8601: "yesterday") == nil)
    }
}
