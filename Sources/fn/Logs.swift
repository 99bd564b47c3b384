// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol

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
                LogLine.show(Array(rest[..<end]))
                rest.removeFirst(end + 1)
            }
        }
    }
}

enum LogLine {
    /// Pretty on a terminal, the daemon's JSON when piped.
    static func show(_ line: [UInt8]) {
        guard Console.isTerminal, let parsed = try? JSONText.decode(LogLineView.self, from: line) else {
            return Console.write(line + [UInt8(ascii: "\n")])
        }
        let time = parsed.time.dropFirst(11).dropLast()
        Console.print(Console.hasColour ? "\u{1B}[2m\(time)\u{1B}[0m \(parsed.message)" : "\(time) \(parsed.message)")
    }
}
