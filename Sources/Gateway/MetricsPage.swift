// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Glibc
import HTTP
import Linux
import Policy
import Pool
import Settings
import Telemetry
import Tracing

/// `GET /metrics`: what was counted, and what is true at this moment. Blocking: it reads the kernel's files.
struct MetricsPage {
    let context: GatewayContext

    var response: HTTPResponse {
        beginAtZero()
        return HTTPResponse(.ok, text: context.metrics.render(gauges), type: "text/plain; version=0.0.4; charset=utf-8")
    }

    private typealias Gauge = (name: String, labels: Metrics.Labels, value: Double)

    private var gauges: [Gauge] {
        sandboxes + counted + host + learnt + process + events + traces + [
            ("fn_invocations_waiting", [], Double(context.pool.waiting)),
            ("fn_config_last_reload_successful", [], context.settings.isRefused ? 0 : 1),
            (
                "fn_config_last_reload_success_timestamp_seconds", [], Double(context.settings.acceptedMs) / 1000
            ),
            ("fn_build_info", [("version", Version.current)], 1),
        ]
    }

    /// What alerts watch is there before it first happens: from a counter that begins at 1, no increase is seen.
    private func beginAtZero() {
        for function in context.catalog.all {
            let labels = [("function", function.name)]
            for name in ["fn_oom_kills_total", "fn_queue_retries_total", "fn_dead_letters_total"] {
                context.metrics.count(name, labels, by: 0)
            }
            for outcome in ["ok", "function_error", "timeout", "oom", "throttled", "internal"] {
                let trigger = ("trigger", Trigger.http.rawValue)
                context.metrics.count("fn_invocations_total", labels + [("outcome", outcome), trigger], by: 0)
            }
        }
        for kind in Decision.Kind.allCases {
            context.metrics.count("fn_decisions_total", [("kind", kind.rawValue)], by: 0)
        }
        for reason in ShrinkStop.allCases {
            context.metrics.count("fn_shrinks_stopped_total", [("reason", reason.rawValue)], by: 0)
        }
    }

    /// Only where there is a collector, or was one.
    private var traces: [Gauge] {
        let counts = context.tracer.exporter.counts
        guard context.tracer.isTracing || counts.exported > 0 || !counts.dropped.isEmpty else { return [] }
        return [
            ("fn_trace_spans_exported_total", [], Double(counts.exported)),
            ("fn_trace_export_failures_total", [], Double(counts.failures)),
        ]
            + SpanExporter.Drop.allCases.map {
                ("fn_trace_spans_dropped_total", [("reason", $0.rawValue)], Double(counts.dropped[$0] ?? 0))
            }
    }

    private var events: [Gauge] {
        let counts = (try? context.queue.counts()) ?? []
        var gauges: [Gauge] = counts.map { count in
            let labels = [("function", count.function), ("state", count.state.rawValue)]
            return ("fn_queue_events", labels, Double(count.count))
        }
        // A function whose events have all ended is 0 and not absent: an alert has to see it come down.
        let (oldest, now) = ((try? context.queue.oldest()) ?? [:], WallClock.nowMs())
        for (function, states) in Dictionary(grouping: counts, by: \.function) {
            let labels = [("function", function)]
            let waiting = states.filter { $0.state == .queued || $0.state == .running }.map(\.count).reduce(0, +)
            let age = oldest[function].map { max(0, now - $0) } ?? 0
            gauges.append(("fn_queue_messages", labels, Double(waiting)))
            gauges.append(("fn_queue_oldest_seconds", labels, Double(age) / 1000))
        }
        return gauges
    }

    private var sandboxes: [Gauge] {
        var sums: [String: [String: Double]] = [:]
        var states: [String: [String: Double]] = [:]
        for (entry, held, member) in context.pool.snapshot() {
            states[entry.owner, default: [:]][entry.stateWord, default: 0] += 1
            let group = member?.sandbox.cgroup
            let numbers = [
                "fn_function_memory_bytes": group?.memoryCurrent()?.count,
                "fn_function_memory_high_bytes": group?.memoryHigh()?.count,
                "fn_function_memory_limit_bytes": group?.memoryMax()?.count,
                "fn_function_memory_swap_bytes": group?.swapCurrent()?.count,
                "fn_function_memory_held_bytes": held.count,
            ]
            for (name, value) in numbers { sums[name, default: [:]][entry.owner, default: 0] += Double(value ?? 0) }
        }
        var gauges: [Gauge] = []
        for (name, functions) in sums {
            for (function, value) in functions { gauges.append((name, [("function", function)], value)) }
        }
        for (function, counts) in states {
            for (state, count) in counts {
                gauges.append(("fn_sandboxes", [("function", function), ("state", state)], count))
            }
            gauges.append(("fn_invocations_in_flight", [("function", function)], counts["busy"] ?? 0))
        }
        return gauges
    }

    /// What the kernel has counted for each function.
    private var counted: [Gauge] {
        context.pool.kernelCounters.flatMap { function, counters -> [Gauge] in
            let own = [("function", function)]
            var gauges: [Gauge] = [
                ("fn_function_cpu_seconds_total", own, Double(counters.cpuMicroseconds) / 1e6),
                ("fn_function_cpu_throttled_seconds_total", own, Double(counters.throttledMicroseconds) / 1e6),
                ("fn_memory_high_events_total", own, Double(counters.highEvents)),
                ("fn_refaults_total", own + [("type", "anon")], Double(counters.refaultedAnonymousPages)),
                ("fn_refaults_total", own + [("type", "file")], Double(counters.refaultedFilePages)),
            ]
            for (stall, microseconds) in counters.stalledMicroseconds {
                let labels = own + [("resource", stall.resource), ("kind", stall.kind)]
                gauges.append(("fn_pressure_stalled_seconds_total", labels, Double(microseconds) / 1e6))
            }
            for (change, count) in counters.limitChanges {
                let labels = own + [("file", change.file), ("direction", change.direction.rawValue)]
                gauges.append(("fn_limit_changes_total", labels, Double(count)))
            }
            return gauges
        }
    }

    /// Versions of a function learn apart, and are one series.
    private var learnt: [Gauge] {
        Dictionary(grouping: context.pool.profiles) { PlanName.function($0.key) }
            .flatMap { function, plans -> [Gauge] in
                let (labels, profiles) = ([("function", function)], plans.map(\.value))
                let penalty = profiles.reduce(0.0) { $0 + $1.wakePenaltyTotal }
                var gauges: [Gauge] = [("fn_wake_penalty_seconds_total", labels, penalty / 1e6)]
                if let peak = profiles.compactMap(\.highestPeak).max() {
                    gauges.append(("fn_function_memory_peak_bytes", labels, Double(peak.count)))
                }
                return gauges
            }
    }

    private var host: [Gauge] {
        let ledger = context.pool.ledger
        let (sample, tier) = context.pool.host
        var gauges: [Gauge] = [
            ("fn_host_budget_bytes", [], Double(ledger.budget.count)),
            ("fn_host_committed_bytes", [], Double(ledger.promised.count)),
        ]
        gauges += HostTier.allCases.map { ("fn_host_tier", [("tier", $0.description)], $0 == tier ? 1 : 0) }
        if let sample {
            gauges.append(("fn_host_available_bytes", [], Double(sample.available.count)))
            gauges.append(("fn_host_swap_free_bytes", [], Double(sample.swapFree.count)))
        }
        if let stalls = context.pool.stalls {
            for (kind, microseconds) in [("some", stalls.some), ("full", stalls.full)] {
                let labels = [("function", "_host"), ("resource", "memory"), ("kind", kind)]
                gauges.append(("fn_pressure_stalled_seconds_total", labels, Double(microseconds) / 1e6))
            }
        }
        return gauges
    }

    private var process: [Gauge] {
        var gauges: [Gauge] = []
        // Pages, the second number is what is resident.
        if let pages = (try? KernelFile.read("/proc/self/statm"))?.split(separator: " ").dropFirst().first
            .flatMap({ Double($0) })
        {
            gauges.append(("process_resident_memory_bytes", [], pages * 4096))
        }
        if let names = try? Directory.list("/proc/self/fd") {
            gauges.append(("process_open_fds", [], Double(names.count)))
        }
        gauges.append(("process_start_time_seconds", [], Double(context.startedMs) / 1000))
        // Max open files            1048576              1048576              files
        if let limits = try? KernelFile.read("/proc/self/limits"),
            let line = limits.split(separator: "\n").first(where: { $0.hasPrefix("Max open files") }),
            let soft = line.split(separator: " ").dropFirst(3).first.flatMap({ Double($0) })
        {
            gauges.append(("process_max_fds", [], soft))
        }
        var usage = rusage()
        let ownProcess: CInt = 0  // RUSAGE_SELF, which is no number of this type here
        if unsafe getrusage(ownProcess, &usage) == 0 {
            let seconds = [usage.ru_utime, usage.ru_stime]
                .reduce(0.0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
            gauges.append(("process_cpu_seconds_total", [], seconds))
        }
        return gauges
    }
}

/// Counts what ended.
extension Metrics {
    package func note(_ note: EventRunner.Note, function: String) {
        switch note {
        case .retried: count("fn_queue_retries_total", [("function", function)])
        case .givenUp: count("fn_dead_letters_total", [("function", function)])
        }
    }

    package func note(_ result: InvocationResult, function: String) {
        let labels = [("function", function)]
        count(
            "fn_invocations_total",
            labels + [("outcome", result.outcome.word), ("trigger", result.trigger.rawValue)]
        )
        guard let start = result.start else { return }
        observe(
            "fn_invocation_duration_seconds",
            labels + [("start", start.rawValue)],
            seconds: result.duration.seconds
        )
        if let time = result.initDuration {
            observe("fn_sandbox_start_seconds", labels + [("kind", start.rawValue)], seconds: time.seconds)
        }
        if case .failure(.outOfMemory) = result.outcome { count("fn_oom_kills_total", labels) }
    }
}
