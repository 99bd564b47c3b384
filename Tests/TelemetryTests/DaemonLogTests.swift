// SPDX-License-Identifier: Apache-2.0
import Foundation
import Logging
import Synchronization
import Testing

@testable import Telemetry

@Suite("The daemon's log")
struct DaemonLogTests {
    private final class Lines: Sendable {
        let all = Mutex<[String]>([])
        var last: String { all.withLock { $0.last ?? "" } }
    }

    private func logger(_ style: DaemonLog.Style) -> (Logger, DaemonLog, Lines) {
        let lines = Lines()
        let log = DaemonLog(level: .info, style: style) { line in lines.all.withLock { $0.append(line) } }
        return (Logger(label: "fnd") { _ in log.handler() }, log, lines)
    }

    @Test("as JSON is one object a line, whatever is in the message")
    func json() throws {
        let (logger, _, lines) = logger(.json)
        logger.warning("two\nlines \"quoted\" \u{1B}[31m", metadata: ["sandbox": "f-1", "\"": "x"])
        #expect(lines.last.filter(\.isNewline).count == 1)
        let object = try JSONSerialization.jsonObject(with: Data(lines.last.utf8)) as? [String: String]
        #expect(object?["message"] == "two\nlines \"quoted\" \u{1B}[31m" && object?["level"] == "warning")
        #expect(object?["sandbox"] == "f-1" && object?["\""] == "x" && object?["time"]?.hasSuffix("Z") == true)
    }

    @Test("is pretty for people: coloured only where that is wanted, further lines below the first")
    func pretty() {
        let (plain, _, lines) = logger(.pretty(colours: false))
        plain.error("first\nsecond", metadata: ["a": "b"])
        #expect(lines.last.contains("ERROR   first\n    second a=b\n") && !lines.last.contains("\u{1B}"))
        let (coloured, _, more) = logger(.pretty(colours: true))
        coloured.error("x")
        #expect(more.last.contains("\u{1B}[31;1mERROR\u{1B}[0m"))
    }

    @Test("changes its level and form while its loggers live; a logger's own level is its own")
    func live() {
        let (logger, log, lines) = logger(.json)
        var (own, other) = (logger, logger)
        own.logLevel = .error
        own.info("a")
        other.debug("b")
        #expect(lines.all.withLock { $0.isEmpty })
        log.set(level: .debug, style: .pretty(colours: false))
        own.info("c")
        other.debug("d")
        #expect(lines.all.withLock { $0.count } == 1 && lines.last.contains("DEBUG   d"))
        other.logLevel = .info
    }

    @Test("is pretty on a terminal and JSON elsewhere; NO_COLOR and a dumb terminal have no colours")
    func automatic() {
        #expect(DaemonLog.automatic(isTerminal: false, environment: [:]) == .json)
        #expect(DaemonLog.automatic(isTerminal: true, environment: [:]) == .pretty(colours: true))
        #expect(DaemonLog.automatic(isTerminal: true, environment: ["NO_COLOR": "1"]) == .pretty(colours: false))
        #expect(DaemonLog.automatic(isTerminal: true, environment: ["NO_COLOR": ""]) == .pretty(colours: true))
        #expect(DaemonLog.automatic(isTerminal: true, environment: ["TERM": "dumb"]) == .pretty(colours: false))
    }
}
