// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol
import Glibc
import Policy
import Simulation
import Units

struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Replay a trace of invocations on Ebb's own pool and reclaim policy, beside three others, without a daemon.",
        discussion: """
            fn simulate --trace calls.csv --memory 8GiB
            fn simulate --generate --functions 200 --hours 24 --memory 1.75x -o json
            A trace is CSV: time,function,duration_ms,memory_mb (seconds; the last two may be left out), or the schema
            of the Azure Functions 2019 dataset. --memory takes a size, or a multiple of the mean active set.
            """
    )

    enum Format: String, ExpressibleByArgument { case table, json }

    @Option(help: "The trace: a CSV file, or - for standard input.") var trace: String?
    @Flag(help: "Make a trace in the shape of published ones, instead of reading one.") var generate = false
    @Option(help: "With --generate: functions.") var functions = 100
    @Option(help: "With --generate: hours.") var hours = 24.0
    @Option(help: "With --generate: the seed; the same one gives the same trace.") var seed: UInt64 = 1
    @Option(help: "Write the trace that was made to this file, as CSV.") var write: String?
    @Option(help: "Memory of the host, such as 8GiB, or 1.75x of the mean active set.") var memory: String
    @Option(help: "Memory of functions for which the trace has none.") var functionMemory = "128MiB"
    @Option(help: "Time of a cold start.") var coldStart = "250ms"
    @Option(help: "Time that a wake adds to a call.") var wake = "5ms"
    @Option(help: "Share of its memory that a shrunk sandbox still takes.") var shrunkShare = 0.31
    @Option(name: .shortAndLong, help: "table or json.") var output = Format.table

    private struct Result: Codable {
        var functions: Int
        var calls: Int
        var hours: Double
        var meanActiveSet: Int64
        var memory: Int64
        var policies: [Outcome]
    }

    func run() throws {
        let trace = try load()
        guard !trace.calls.isEmpty else { throw Failure(.usage, "fn: the trace has no calls") }
        if let write { try save(trace, write) }
        let active = trace.meanActiveSet
        let memory = try budget(active)
        let costs = try costs()
        let ebb = Progress.watch("Ebb") { EbbPolicy(costs: costs).run(trace, memory: memory, onProgress: $0.reached) }
        let others = KeepAlive.Kind.allCases.map { kind in
            Progress.watch(kind.rawValue) {
                KeepAlive(kind, costs: costs).run(trace, memory: memory, onProgress: $0.reached)
            }
        }
        let result = Result(
            functions: trace.functions.count,
            calls: trace.calls.count,
            hours: trace.length / 3600,
            meanActiveSet: active.count,
            memory: memory.count,
            policies: [ebb] + others
        )
        Console.print(output == .json ? JSONText.encode(result, pretty: true) : table(result))
    }

    private func load() throws -> Trace {
        guard generate != (trace != nil) else {
            throw Failure(.usage, "fn: name a trace with --trace FILE, or have one made with --generate")
        }
        guard let file = trace else {
            guard functions > 0, functions <= 100_000, hours > 0, hours <= 24 * 31 else {
                throw Failure(.usage, "fn: --functions: 1 to 100000; --hours: above 0, at most 744")
            }
            return TraceGenerator(functions: functions, hours: hours, seed: seed).make()
        }
        let bytes = file == "-" ? try Console.readAll(0, "standard input") : try Console.readFile(file)
        do throws(TraceError) {
            return try Trace(csv: String(decoding: bytes, as: UTF8.self), memory: Bytes(functionMemory) ?? .mib(128))
        } catch {
            throw Failure(.failed, "fn: \(file): \(error)")
        }
    }

    private func budget(_ active: Bytes) throws -> Bytes {
        if memory.hasSuffix("x"), let factor = Double(memory.dropLast()), factor > 0 { return active * factor }
        guard let size = Bytes(memory), size >= .mib(1) else {
            throw Failure(
                .usage,
                "fn: --memory: expected a size such as 8GiB, or a multiple such as 1.75x, got '\(memory)'"
            )
        }
        return size
    }

    private func costs() throws -> Costs {
        var costs = Costs()
        guard let cold = Duration(text: coldStart), let wake = Duration(text: wake) else {
            throw Failure(.usage, "fn: --cold-start and --wake: expected durations such as 250ms")
        }
        guard shrunkShare > 0, shrunkShare <= 1 else {
            throw Failure(.usage, "fn: --shrunk-share: expected a number above 0, at most 1, got '\(shrunkShare)'")
        }
        guard Bytes(functionMemory).map({ $0 > .zero }) == true else {
            throw Failure(.usage, "fn: --function-memory: expected a size such as 128MiB, got '\(functionMemory)'")
        }
        (costs.coldStart, costs.wake, costs.shrunkShare) = (cold.seconds, wake.seconds, shrunkShare)
        return costs
    }

    private func save(_ trace: Trace, _ file: String) throws {
        var text = "time,function,duration_ms,memory_mb\n"
        for call in trace.calls {
            let function = trace.functions[call.function]
            text +=
                "\(rounded(call.time)),\(function.name),\(rounded(call.duration * 1000)),\(function.memory.mebibytes)\n"
        }
        let fd = unsafe open(file, O_CREAT | O_WRONLY | O_TRUNC, 0o644)
        guard fd >= 0 else { throw Failure(.failed, "fn: \(file): \(unsafe String(cString: strerror(errno)))") }
        Console.write(Array(text.utf8), to: fd)
        close(fd)
    }

    // MARK: Showing

    private func rounded(_ value: Double) -> String {
        let thousandths = Int64((value * 1000).rounded())
        return "\(thousandths / 1000).\(String(1000 + thousandths % 1000).dropFirst())"
    }

    private func table(_ result: Result) -> String {
        var table = Table(header: [
            "POLICY", "COLD STARTS", "SHARE", "REFUSED", "EVICTIONS", "WAKES", "WAKE TIME", "HELD GiB·h",
            "WASTED GiB·h",
        ])
        table.rows = result.policies.map { outcome in
            [
                outcome.policy, "\(outcome.coldStarts)", "\(rounded(outcome.coldShare * 100))%", "\(outcome.refused)",
                "\(outcome.evictions)", "\(outcome.wakes)", "\(rounded(outcome.wakeSeconds)) s",
                rounded(outcome.heldGiBHours), rounded(outcome.wastedGiBHours),
            ]
        }
        let head =
            "\(result.calls) calls of \(result.functions) functions in \(rounded(result.hours)) h; memory \(Bytes(result.memory).rounded), "
            + "\(rounded(Double(result.memory) / Double(max(1, result.meanActiveSet)))) times the mean active set of \(Bytes(result.meanActiveSet).rounded)"
        return head + "\n\n" + table.text
    }
}
