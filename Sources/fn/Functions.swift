// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Units

/// What is said beside a limit that this host does not enforce.
func enforcement(_ isEnforced: Bool) -> String { isEnforced ? "" : " (not enforced)" }

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List functions.")
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let functions = try daemon.get(FunctionList.self, "/v1/functions").functions
        list.show(functions, names: functions.map(\.name)) {
            var table = Table(header: ["NAME", "RUNTIME", "MEMORY", "CPUS", "TIMEOUT", "SANDBOXES", "REV"])
            table.rows = functions.map { function in
                let note = enforcement(function.limitsEnforced)
                return [
                    function.name, function.runtime, "\(Bytes(function.memory))\(note)",
                    "\(CPUQuota(millis: function.cpus))\(note)",
                    Duration.milliseconds(function.timeoutMs).text, String(function.sandboxes),
                    String(function.revision),
                ]
            }
            return table.text
        }
    }
}

struct Describe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a function: its limits, whose word they are, and what is pending."
    )
    @Argument(help: "The function.", completion: .functions) var name: String
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let function = try DaemonAddress.decode(FunctionView.self, try daemon.ofFunction(name, "GET").body)
        list.show(function, names: [function.name]) { Self.text(function) }
    }

    static func text(_ function: FunctionView) -> String {
        let note = enforcement(function.limitsEnforced)
        func from(_ key: String) -> String { function.origins[key].map { "  [\($0)]" } ?? "" }
        var lines = [
            "name:         \(function.name)", "runtime:      \(function.runtime)",
            "handler:      \(function.handler ?? "-")",
            "memory:       \(Bytes(function.memory))\(note)\(from("memory"))",
            "cpus:         \(CPUQuota(millis: function.cpus))\(note)\(from("cpus"))",
            "timeout:      \(Duration.milliseconds(function.timeoutMs).text)\(from("timeout"))",
            "tmp:          \(Bytes(function.tmp))\(from("tmp"))",
            "concurrency:  \(function.concurrency)\(from("concurrency"))",
            "min warm:     \(function.minWarm)\(from("min_warm"))",
            "per sandbox:  \(function.perSandbox)\(from("per_sandbox"))",
            "network:      \(function.network)\(from("network"))",
            "sandboxes:    \(function.sandboxes)",
            "code:         \(Bytes(function.codeSize).rounded), sha256 \(function.codeSha256)",
            "revision:     \(function.revision), \(function.lastModified)",
        ]
        lines += further(function)
        lines += image(function)
        lines += events(function)
        for (key, value) in function.env.sorted(by: { $0.key < $1.key }) {
            lines.append("env:          \(key)=\(value)")
        }
        for limit in function.pending {
            lines.append(
                "pending:      \(limit.sandbox) \(limit.file) \(Bytes(limit.from).rounded) -> \(Bytes(limit.to).rounded): \(limit.reason)"
            )
        }
        return lines.joined(separator: "\n")
    }

    /// Limits that most functions have as they are built in.
    private static func further(_ function: FunctionView) -> [String] {
        func size(_ label: String, _ bytes: Int64?, _ unit: String = "") -> String? {
            bytes.map { label + Bytes($0).rounded + unit }
        }
        var lines = [
            size("memory burst: ", function.memoryBurst), size("memory high:  ", function.memoryHigh),
            size("memory low:   ", function.memoryLow), size("io read:      ", function.ioRead, "/s"),
            size("io write:     ", function.ioWrite, "/s"), function.pids.map { "pids:         \($0)" },
        ]
        if let weight = function.cpuWeight, weight != 100 { lines.append("cpu weight:   \(weight)") }
        if let weight = function.ioWeight, weight != 100 { lines.append("io weight:    \(weight)") }
        if function.reclaims == false { lines.append("reclaim:      off") }
        return lines.compactMap { $0 }
    }

    private static func image(_ function: FunctionView) -> [String] {
        var lines = function.httpPort.map { ["http port:    \($0)"] } ?? []
        guard let image = function.image else { return lines }
        lines.append("image:        sha256:\(image.id), \(image.platform), \(image.layers) layers")
        lines.append(
            "runs:         \((image.entrypoint + image.command).joined(separator: " "))  in \(image.workingDirectory)"
        )
        if let user = image.user { lines.append("image's user: \(user) (a sandbox has its own)") }
        return lines
    }

    private static func events(_ function: FunctionView) -> [String] {
        guard let events = function.events else { return [] }
        let age = Duration.seconds(events.maxAgeSeconds).text
        var lines = ["events:       retries \(events.retries), for at most \(age)"]
        for (label, target) in [
            ("on success:   ", events.onSuccess), ("on failure:   ", events.onFailure),
            ("dead letters: ", events.deadLetter),
        ] {
            if let target { lines.append(label + target) }
        }
        lines += (function.schedules ?? [])
            .map { "schedule:     \($0.name), \($0.expression), next \($0.next.first ?? "never")" }
        return lines
    }
}

struct Update: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change a function's limits; its sandboxes get them while they live.",
        discussion: "fn update hello-python --memory 256MiB --cpus 2"
    )
    @Argument(help: "The function.", completion: .functions) var name: String
    @OptionGroup var limits: LimitOptions
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let body = JSONText.encode(try limits.request())
        guard body != "{}" else {
            throw Failure(.usage, "fn: nothing to change: name a limit, such as --memory 256MiB")
        }
        let answer = try daemon.ofFunction(name, "PATCH", body: Array(body.utf8))
        let function = try DaemonAddress.decode(FunctionView.self, answer.body)
        Console.error("Updated \(function.name) (rev \(function.revision)).")
        for limit in function.pending {
            Console.error(
                "pending: \(limit.sandbox) \(limit.file) \(Bytes(limit.from).rounded) -> \(Bytes(limit.to).rounded): \(limit.reason)"
            )
        }
    }
}

struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove a function and its sandboxes.")
    @Argument(help: "The function.", completion: .functions) var name: String
    @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        if !yes, Console.canAsk {
            _ = try daemon.ofFunction(name, "GET")
            guard Console.confirm("Remove \(name)?") else { throw Failure(.failed, "fn: nothing was removed") }
        }
        _ = try daemon.ofFunction(name, "DELETE")
        Console.error("Removed \(name).")
    }
}
