// SPDX-License-Identifier: Apache-2.0
import Policy

/// The metrics that there are: names are promised, so all stand in one place.
extension Metrics {
    package static let catalog: [Family] = [
        Family("fn_invocations_total", .counter, "Invocations that ended, by how, and by what had called."),
        Family(
            "fn_invocation_duration_seconds",
            .histogram,
            "From dispatch to the answer, by where the sandbox came from."
        ),
        Family("fn_invocations_in_flight", .gauge, "Invocations that run now."),
        Family("fn_invocations_waiting", .gauge, "Invocations that wait for a sandbox or for memory."),
        Family("fn_queue_events", .gauge, "Asynchronous events on disk, by state."),
        Family("fn_queue_messages", .gauge, "Asynchronous events that have not ended."),
        Family("fn_queue_oldest_seconds", .gauge, "Age of the oldest asynchronous event that has not ended."),
        Family("fn_queue_retries_total", .counter, "Asynchronous events that failed and are tried again."),
        Family("fn_dead_letters_total", .counter, "Asynchronous events that were given up."),
        Family("fn_sandbox_start_seconds", .histogram, "From the start of a sandbox to its first request for work."),
        Family("fn_sandboxes", .gauge, "Sandboxes, by state."),
        Family("fn_sandbox_exits_total", .counter, "Sandboxes that were ended or ended by themselves, by why."),
        Family("fn_function_memory_bytes", .gauge, "memory.current of all sandboxes of a function."),
        Family(
            "fn_function_memory_high_bytes",
            .gauge,
            "memory.high of those sandboxes of a function that have one: the shrunk ones."
        ),
        Family("fn_function_memory_limit_bytes", .gauge, "memory.max of all sandboxes of a function."),
        Family("fn_function_memory_swap_bytes", .gauge, "memory.swap.current of all sandboxes of a function."),
        Family("fn_function_memory_held_bytes", .gauge, "What the ledger has promised all sandboxes of a function."),
        Family("fn_function_memory_peak_bytes", .gauge, "The highest use of one call that is known."),
        Family("fn_reclaimed_bytes_total", .counter, "Promised memory that shrinks gave back to the ledger."),
        Family("fn_refaults_total", .counter, "Pages that were taken and were needed again, by type."),
        Family("fn_memory_high_events_total", .counter, "Times that memory.high slowed a sandbox down."),
        Family("fn_function_cpu_seconds_total", .counter, "Processor time of all sandboxes of a function."),
        Family(
            "fn_function_cpu_throttled_seconds_total",
            .counter,
            "Time in which cpu.max let nothing of a sandbox run."
        ),
        Family("fn_limit_changes_total", .counter, "Edits of living sandboxes' limits, by file and direction."),
        Family(
            "fn_wake_penalty_seconds_total",
            .counter,
            "Time that calls took longer because their sandbox was shrunk."
        ),
        Family("fn_decisions_total", .counter, "Decisions, by kind; fn why tells each."),
        Family("fn_oom_kills_total", .counter, "Invocations that ran out of memory."),
        Family(
            "fn_pressure_stalled_seconds_total",
            .counter,
            "Time in which tasks of a function, or of the host (_host), waited for a resource (PSI)."
        ),
        Family("fn_host_tier", .gauge, "1 for the tier that the host is in."),
        Family("fn_host_budget_bytes", .gauge, "What all sandboxes together may be promised."),
        Family("fn_host_committed_bytes", .gauge, "What is promised."),
        Family("fn_host_available_bytes", .gauge, "MemAvailable of the host."),
        Family("fn_host_swap_free_bytes", .gauge, "Swap that is free."),
        Family("fn_config_last_reload_successful", .gauge, "Whether the last look at the configuration was accepted."),
        Family(
            "fn_config_last_reload_success_timestamp_seconds",
            .gauge,
            "When the configuration was last accepted, in seconds since 1970."
        ),
        Family("fn_trace_spans_exported_total", .counter, "Spans that the collector of traces has taken."),
        Family("fn_trace_spans_dropped_total", .counter, "Spans that were not sent, by why."),
        Family("fn_trace_export_failures_total", .counter, "Attempts to send traces that went wrong."),
        Family("fn_shrinks_stopped_total", .counter, "Shrinks that ended before they took what they were to, by why."),
        Family("fn_build_info", .gauge, "1, with the version."),
        Family("process_resident_memory_bytes", .gauge, "Resident memory of the daemon."),
        Family("process_open_fds", .gauge, "Open file descriptors of the daemon."),
        Family("process_max_fds", .gauge, "File descriptors that the daemon may open."),
        Family("process_start_time_seconds", .gauge, "When the daemon started, in seconds since 1970."),
        Family("process_cpu_seconds_total", .counter, "Processor time of the daemon."),
    ]

    /// Counts decisions as they are made.
    package func note(_ decisions: [Decision]) {
        for decision in decisions {
            count("fn_decisions_total", [("kind", decision.kind.rawValue)])
            guard let function = decision.function.map(PlanName.function) else { continue }
            switch decision.kind {
            case .shrunk:
                count(
                    "fn_reclaimed_bytes_total",
                    [("function", function), ("reason", decision.cause ?? "")],
                    by: Double(max(0, decision["given_back_bytes"] ?? 0))
                )
            case .keep:
                if let cause = decision.cause { count("fn_shrinks_stopped_total", [("reason", cause)]) }
            case .stop, .evict:
                count("fn_sandbox_exits_total", [("function", function), ("reason", decision.cause ?? "")])
            default: break
            }
        }
    }
}
