// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc
import Linux

struct Logs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a function printed.",
        discussion: "fn logs hello-python --since 10m\nfn logs hello-python --request 8e0c1f5a\nfn logs -f hello-python"
    )
    @Argument(help: "The function.", completion: .functions) var name: String
    @Flag(name: .shortAndLong, help: "Go on as it prints.") var follow = false
    @Option(help: "Only what is younger, such as 10m.") var since: String?
    @Option(help: "Only so many lines.") var tail: Int?
    @Option(help: "Only those of one request: its id, or the beginning of it.") var request: String?
    @Option(name: .shortAndLong, help: "Output: pretty (on a terminal) or json, an object each line (elsewhere).")
    var output: LogForm?
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        var query: [String] = []
        if follow { query.append("follow=true") }
        if let since { query.append("since=\(PercentEncoder.encode(since))") }
        if let request { query.append("request=\(PercentEncoder.encode(request))") }
        if let tail { query.append("tail=\(tail)") }
        let path = "/logs" + (query.isEmpty ? "" : "?" + query.joined(separator: "&"))
        var rest: [UInt8] = []
        _ = try daemon.ofFunction(name, "GET", path) { bytes in
            rest += bytes
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                LogLine.show(Array(rest[..<end]), as: output)
                rest.removeFirst(end + 1)
            }
        }
    }
}

enum LogForm: String, ExpressibleByArgument, CaseIterable {
    case pretty
    case json
}

enum LogLine {
    /// Pretty on a terminal, the daemon's JSON when piped.
    static func show(_ line: [UInt8], as form: LogForm? = nil) {
        let form = form ?? (Console.isTerminal ? .pretty : .json)
        guard form == .pretty, let parsed = try? JSONText.decode(LogLineView.self, from: line) else {
            return Console.write(line + [UInt8(ascii: "\n")])
        }
        Console.print(pretty(parsed, colours: Console.hasColour))
    }

    /// Local time, the beginning of the request's id, and the line: what the platform says of a request is told from what
    /// the function printed.
    static func pretty(_ line: LogLineView, colours: Bool) -> String {
        func coloured(_ code: String, _ text: String) -> String { colours ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text }
        let time = WallClock.ms(iso8601: line.time).map { LocalTime.text($0) } ?? line.time
        let request = line.requestId.map { String($0.prefix(8)) } ?? "-       "
        let message = line.message.map { isPrintable($0) ? String($0) : escaped($0) }.joined()
        let code =
            switch Source(line) {
            case .function: ""
            case .platform: "36"
            case .failure: "31"
            }
        return "\(coloured("2", "\(time) \(request)")) \(code.isEmpty ? message : coloured(code, message))"
    }

    /// Who speaks.
    enum Source: Equatable {
        case function
        case platform
        /// The platform, about an error.
        case failure

        init(_ line: LogLineView) {
            guard let id = line.requestId else {
                self = .function
                return
            }
            let words = ["START", "END", "REPORT", "GROWN"]
            if words.contains(where: { line.message.hasPrefix("\($0) RequestId: \(id)") }) {
                // REPORT tells how it went wrong, at its end.
                self = line.message.contains("\tStatus: ") ? .failure : .platform
            } else if line.message.hasPrefix("RequestId: \(id) Error: ") {
                self = .failure
            } else {
                self = .function
            }
        }
    }

    /// A function must not steer the terminal of who reads its log: of the controls only tabs are
    /// let through.
    private static func isPrintable(_ character: Character) -> Bool {
        character == "\t" || !character.unicodeScalars.contains { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) }
    }

    private static func escaped(_ character: Character) -> String {
        character.unicodeScalars
            .map { scalar in
                guard scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) else { return String(scalar) }
                let digits = String(scalar.value, radix: 16)
                return "\\x\(digits.count < 2 ? "0" : "")\(digits)"
            }
            .joined()
    }
}
