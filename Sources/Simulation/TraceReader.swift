// SPDX-License-Identifier: Apache-2.0
import Units

/// Why a trace could not be read.
package struct TraceError: Error, CustomStringConvertible, Equatable {
    package let description: String
    init(_ line: Int, _ what: String) { description = "line \(line): \(what)" }
}

extension Trace {
    /// Reads comma-separated values with a header, in one of two forms:
    ///
    /// - `time,function,duration_ms,memory_mb`, one line a call; `time` in seconds from any beginning, the last two may
    ///   be left out;
    /// - the Azure Functions 2019 schema, `HashOwner,HashApp,HashFunction,Trigger,1,2,…,1440`: calls in each minute of
    ///   a day, spread evenly over it.
    ///
    /// - Parameters:
    ///   - memory: of functions for which the trace has none.
    ///   - duration: seconds, likewise.
    package init(csv text: String, memory: Bytes = .mib(128), duration: Double = 0.5) throws(TraceError) {
        var lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        while lines.last?.isEmpty == true { lines.removeLast() }
        guard let header = lines.first else { throw TraceError(1, "the trace is empty") }
        let names = header.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        if names.first == "HashOwner" || names.first == "HashFunction" {
            try self.init(azure: names, lines, memory: memory, duration: duration)
        } else if names.count >= 2, names[0] == "time", names[1] == "function" {
            try self.init(plain: names, lines, memory: memory, duration: duration)
        } else {
            throw TraceError(
                1,
                "expected 'time,function,duration_ms,memory_mb' or 'HashOwner,HashApp,HashFunction,Trigger,1,…', got '\(header.prefix(80))'"
            )
        }
    }

    private init(plain names: [String], _ lines: [Substring], memory: Bytes, duration: Double) throws(TraceError) {
        guard names.count <= 4, zip(names, ["time", "function", "duration_ms", "memory_mb"]).allSatisfy({ $0 == $1 })
        else {
            throw TraceError(1, "expected 'time,function,duration_ms,memory_mb', got '\(names.joined(separator: ","))'")
        }
        var (functions, index, calls): ([Function], [String: Int], [Call]) = ([], [:], [])
        for (number, line) in lines.enumerated().dropFirst() {
            let fields = line.split(separator: ",", omittingEmptySubsequences: false)
            guard fields.count == names.count else {
                throw TraceError(number + 1, "expected \(names.count) values, got \(fields.count)")
            }
            let time = try Self.number(fields[0], "time", number)
            let name = String(fields[1])
            let length = names.count > 2 ? try Self.number(fields[2], "duration_ms", number) / 1000 : duration
            let size = names.count > 3 ? Bytes.mib(1) * (try Self.number(fields[3], "memory_mb", number)) : memory
            guard size > .zero else { throw TraceError(number + 1, "memory_mb: expected more than 0") }
            let known = index[name] ?? functions.count
            if known == functions.count {
                functions.append(Function(name: name, memory: size))
                index[name] = known
            }
            functions[known].memory = max(functions[known].memory, size)
            calls.append(Call(time: time, function: known, duration: length))
        }
        let start = calls.map(\.time).min() ?? 0
        self.init(
            functions: functions,
            calls: calls.map { Call(time: $0.time - start, function: $0.function, duration: $0.duration) }
        )
    }

    private init(azure names: [String], _ lines: [Substring], memory: Bytes, duration: Double) throws(TraceError) {
        guard let first = names.firstIndex(of: "1"), let name = names.firstIndex(of: "HashFunction"), name < first
        else {
            throw TraceError(1, "the Azure schema has columns HashFunction and 1 to 1440")
        }
        var (functions, calls): ([Function], [Call]) = ([], [])
        for (number, line) in lines.enumerated().dropFirst() {
            let fields = line.split(separator: ",", omittingEmptySubsequences: false)
            guard fields.count == names.count else {
                throw TraceError(number + 1, "expected \(names.count) values, got \(fields.count)")
            }
            functions.append(Function(name: String(fields[name]), memory: memory))
            for (minute, field) in fields[first...].enumerated() where !field.isEmpty && field != "0" {
                let count = Int(try Self.number(field, "minute \(minute + 1)", number))
                for call in 0..<count {
                    let time = Double(minute) * 60 + (Double(call) + 0.5) * 60 / Double(count)
                    calls.append(Call(time: time, function: functions.count - 1, duration: duration))
                }
            }
        }
        self.init(functions: functions, calls: calls)
    }

    private static func number(_ text: Substring, _ name: String, _ line: Int) throws(TraceError) -> Double {
        guard let value = Double(text), value >= 0, value.isFinite else {
            throw TraceError(line + 1, "\(name): expected a number, got '\(text)'")
        }
        return value
    }
}
