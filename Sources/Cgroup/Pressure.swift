// SPDX-License-Identifier: Apache-2.0

/// Pressure stall information (kernel: Documentation/accounting/psi.rst).
///
/// ```
/// some avg10=0.00 avg60=0.12 avg300=0.40 total=81534
/// full avg10=0.00 avg60=0.00 avg300=0.00 total=1200
/// ```
/// Averages are percentages of time, two seconds late; `total` is exact, in microseconds.
package struct Pressure: Sendable, Equatable {
    /// The share of time in which some, or all, tasks waited.
    package struct Line: Sendable, Equatable {
        package var avg10 = 0.0
        package var avg60 = 0.0
        package var avg300 = 0.0
        package var totalMicroseconds: Int64 = 0
    }

    package var some = Line()
    package var full = Line()

    package init(_ text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let kind = words.first else { continue }
            var parsed = Line()
            for word in words.dropFirst() {
                let pair = word.split(separator: "=")
                guard pair.count == 2 else { continue }
                switch pair[0] {
                case "avg10": parsed.avg10 = Double(pair[1]) ?? 0
                case "avg60": parsed.avg60 = Double(pair[1]) ?? 0
                case "avg300": parsed.avg300 = Double(pair[1]) ?? 0
                case "total": parsed.totalMicroseconds = Int64(pair[1]) ?? 0
                default: break
                }
            }
            if kind == "some" { some = parsed } else if kind == "full" { full = parsed }
        }
    }
}

extension Cgroup {
    /// `memory.pressure`; `nil` when the kernel has no pressure stall information.
    package func memoryPressure() -> Pressure? { (try? read("memory.pressure")).map { Pressure($0) } }
    package func ioPressure() -> Pressure? { (try? read("io.pressure")).map { Pressure($0) } }
    package func cpuPressure() -> Pressure? { (try? read("cpu.pressure")).map { Pressure($0) } }
}
