// SPDX-License-Identifier: Apache-2.0
import Units

/// What the daemon tells of itself.
extension Schema {
    static let telemetry: [Setting] = [
        Setting(
            path: "log.level",
            form: "one of trace, debug, info, notice, warning, error",
            fallback: "info",
            isLive: true,
            doc: "what the daemon writes about itself",
            shape: .words(["trace", "debug", "info", "notice", "warning", "error"]),
            read: { text, settings, _ in
                settings.log.level = text
                return ["trace", "debug", "info", "notice", "warning", "error"].contains(text)
            }
        ),
        choice(
            "log.format",
            \.log.format,
            "auto",
            "how it writes that: pretty for people, json for programs, a line each; auto is pretty on a terminal and json elsewhere"
        ),
        bytes(
            "log.functions.retain",
            \.log.functions.retain,
            "64MiB",
            least: .kib(64),
            live: false,
            "what is kept of one function's output on disk"
        ),
        choice(
            "log.functions.to",
            \.log.functions.to,
            "file",
            "where that goes: to its file, which fn logs reads, or to both, the file and the daemon's own log"
        ),
        Setting(
            path: "metrics.listen",
            form: "an address such as '127.0.0.1:9100', or same",
            fallback: "same",
            isLive: false,
            doc:
                "where /metrics is served: where everything else is, or at a port of its own with /healthz and /readyz and nothing else, and then no longer at http.listen; the rules of http.listen hold",
            read: { text, settings, _ in
                settings.metrics.listen = text == "same" ? nil : text
                return text == "same" || isAddress(text)
            }
        ),
        Setting(
            path: "tracing.otlp",
            form: "an address such as 'http://127.0.0.1:4318', or none",
            fallback: "none",
            isLive: true,
            doc:
                "the OpenTelemetry collector that traces are sent to, as OTLP over HTTP in JSON; without a path of its own, to /v1/traces",
            read: { text, settings, _ in
                settings.tracing.collector = Collector(text)
                return text == "none" || settings.tracing.collector != nil
            }
        ),
        percent(
            "tracing.sample",
            \.tracing.sample,
            "1%",
            "how many of the invocations are traced whose callers do not say themselves (the sampled flag of traceparent)"
        ),
        Setting(
            path: "tracing.headers",
            form: "a path, or none",
            fallback: "none",
            isLive: true,
            doc:
                "a file with header fields for the collector, such as its API key, a 'Name: value' each line; root's own and not readable by others",
            read: { text, settings, _ in
                settings.tracing.headersFile = text == "none" ? nil : text
                return !text.isEmpty
            }
        ),
    ]
}
