// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc
import Units

struct Invoke: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a function: its answer on standard output, everything else on standard error.",
        discussion: "fn invoke hello-python -d '{\"name\": \"Ebb\"}'\nfn invoke sum-command -d @numbers.txt"
    )

    enum LogKind: String, ExpressibleByArgument, CaseIterable { case none, tail }

    @Argument(help: "The function.", completion: .functions) var name: String
    @Option(name: .shortAndLong, help: "The event: text, @FILE, or - for standard input.") var data: String?
    @Flag(help: "Queue it, print its id, and do not wait for the answer (see fn queue).") var async = false
    @Option(help: "tail: show the end of the log.") var log = LogKind.none
    @Option(help: "A size for this one request, such as 512MiB.") var memory: String?
    @Option(help: "A time limit for this one request, such as 30s.") var timeout: String?
    @Flag(help: "Use a sandbox that is started for this request.") var cold = false
    @Flag(help: "Never add a newline to the answer.") var raw = false
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let (path, headers, event) = ("/invoke/\(try DaemonAddress.encoded(name))", try headers(), try event())
        let answer = try answer(path, headers, event)
        if let tail = answer.headers["x-amz-log-result"].flatMap({ Base64.decode($0) }) { Console.write(tail, to: 2) }
        if answer.status == 202 {
            // What a script needs to ask for the answer later.
            let accepted = try JSONText.decode(AcceptedView.self, from: answer.body)
            Console.print(accepted.requestId)
            if Console.isTerminal { Console.error("Accepted: fn queue show \(accepted.requestId)") }
            return
        }
        let isFunctions = answer.status < 400 || answer.headers["x-fn-error"] != nil
        guard isFunctions else { throw Self.byOurFlags(daemon.failure(answer, function: name)) }
        Console.write(answer.body)
        if !raw, Console.isTerminal, unsafe Console.lastWritten != UInt8(ascii: "\n") {
            Console.write([UInt8(ascii: "\n")])
        }
        guard answer.status >= 400 else {
            if log == .tail { Console.error(status(answer)) }
            return
        }
        throw Failure(Exit(functionStatus: answer.status), "fn: \(name) \(what(answer.status)) (\(status(answer)))")
    }

    /// What a function answers is written as it comes.
    private func answer(_ path: String, _ headers: [(String, String)], _ event: [UInt8]) throws -> HTTPAnswer {
        let write: (([UInt8]) -> Void)? = self.async ? nil : { bytes in Console.write(bytes) }
        do {
            return try daemon.reach("waiting for \(name)") { client, _ throws(ClientError) in
                try client.call("POST", path, headers: headers, body: event, onBody: write)
            }
        } catch let error as BrokenOff where error.headers["transfer-encoding"] != nil {
            // So it ends when a function fails that has answered in part: there is no other sign of that in HTTP/1.1.
            let request = error.headers["x-fn-request-id"].map { " (request \($0))" } ?? ""
            throw Failure(.functionError, "fn: \(name) failed in the middle of its answer\(request): fn logs \(name)")
        }
    }

    /// What the daemon says of headers, said of the flags that they came from.
    private static func byOurFlags(_ failure: Failure) -> Failure {
        var failure = failure
        for (header, flag) in [("X-Fn-Timeout-Ms: ", "--timeout: "), ("X-Fn-Memory-Mb: ", "--memory: ")] {
            let start = "fn: \(header)"
            if failure.message.hasPrefix(start) {
                failure.message = "fn: \(flag)\(failure.message.dropFirst(start.count))"
            }
        }
        return failure
    }

    private func headers() throws -> [(String, String)] {
        var headers = [("Content-Type", "application/json")]
        if let memory {
            guard let size = Bytes(memory), size >= .mib(4), size == .mib(Int64(size.mebibytes)) else {
                throw Failure(
                    .usage,
                    "fn: --memory: expected a size in whole MiB such as 512MiB, at least 4MiB, got '\(memory)'"
                )
            }
            headers.append(("X-Fn-Memory-Mb", String(size.mebibytes)))
        }
        if let timeout {
            guard let time = Duration(text: timeout), time.milliseconds > 0 else {
                throw Failure(.usage, "fn: --timeout: expected a duration such as 30s, got '\(timeout)'")
            }
            headers.append(("X-Fn-Timeout-Ms", String(time.milliseconds)))
        }
        if cold { headers.append(("X-Fn-Cold", "1")) }
        if log == .tail { headers.append(("X-Amz-Log-Type", "Tail")) }
        if async { headers.append(("X-Amz-Invocation-Type", "Event")) }
        return headers
    }

    private func event() throws -> [UInt8] {
        guard let data else { return [] }
        if data == "-" { return try Console.readAll(0, "standard input") }
        guard data != "@" else { throw Failure(.usage, "fn: --data: expected text, @FILE or -, got '@'") }
        return data.hasPrefix("@") ? try Console.readFile(String(data.dropFirst())) : Array(data.utf8)
    }

    private func what(_ status: Int) -> String {
        switch status {
        case 504: "timed out"
        case 507: "ran out of memory"
        default: "failed"
        }
    }

    private func status(_ answer: HTTPAnswer) -> String {
        let fields = [
            answer.headers["x-fn-start"].map { "\($0) start" }, answer.headers["x-fn-duration-ms"].map { "\($0) ms" },
            answer.headers["x-fn-memory-peak-mb"].map { "peak \($0) MiB" },
            answer.headers["x-fn-memory-grown-mb"].map { "grown to \($0) MiB" },
            answer.headers["x-fn-request-id"].map { "request \($0)" },
        ]
        return fields.compactMap { $0 }.joined(separator: ", ")
    }
}
