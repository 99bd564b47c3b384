// SPDX-License-Identifier: Apache-2.0
import Units

/// What is replayed: functions, and when they are called.
package struct Trace: Sendable {
    package struct Function: Sendable, Equatable {
        package var name: String
        /// What one sandbox of it uses.
        package var memory: Bytes

        package init(name: String, memory: Bytes) {
            self.name = name
            self.memory = memory
        }
    }

    package struct Call: Sendable, Equatable {
        /// Seconds from the trace's start.
        package var time: Double
        /// Index into `functions`.
        package var function: Int
        /// Seconds.
        package var duration: Double

        package init(time: Double, function: Int, duration: Double) {
            self.time = time
            self.function = function
            self.duration = duration
        }
    }

    package var functions: [Function]
    /// In order of time.
    package var calls: [Call]

    package init(functions: [Function], calls: [Call]) {
        self.functions = functions
        self.calls = calls.sorted { $0.time < $1.time }
    }

    /// Seconds to the end of the last call.
    package var length: Double { calls.map { $0.time + $0.duration }.max() ?? 0 }

    /// The mean over all minutes of the memory of everything that was called in that minute, at the highest number of
    /// calls at once: what a host would need that starts and stops sandboxes at no cost.
    package var meanActiveSet: Bytes {
        let minutes = Int(length / 60) + 1
        var total = 0.0
        for (index, function) in functions.enumerated() {
            let peaks = peaks(index, minutes)
            total += peaks.reduce(0) { $0 + Double($1) } * Double(function.memory.count)
        }
        return Bytes(Int64(total / Double(minutes)))
    }

    private func peaks(_ function: Int, _ minutes: Int) -> [Int] {
        var edges: [(time: Double, change: Int)] = []
        for call in calls where call.function == function {
            edges.append((call.time, 1))
            edges.append((call.time + call.duration, -1))
        }
        edges.sort { ($0.time, $0.change) < ($1.time, $1.change) }
        var (running, minute) = (0, 0)
        var peaks = [Int](repeating: 0, count: minutes)
        for edge in edges {
            let now = min(Int(edge.time / 60), minutes - 1)
            if now > minute { for idle in (minute + 1)...now { peaks[idle] = max(peaks[idle], running) } }
            minute = now
            running += edge.change
            peaks[now] = max(peaks[now], running)
        }
        return peaks
    }
}
