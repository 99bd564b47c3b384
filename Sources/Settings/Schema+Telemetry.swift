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
            "log.functions_retain",
            \.log.functionsRetain,
            "64MiB",
            least: .kib(64),
            live: false,
            "what is kept of one function's output on disk"
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
        Setting(
            path: "tracing.sample",
            form: "a share such as '1%', from 0% to 100%",
            fallback: "1%",
            isLive: true,
            doc:
                "how many of the invocations are traced whose callers do not say themselves (the sampled flag of traceparent)",
            read: { text, settings, _ in
                guard text.hasSuffix("%"), let percent = Double(text.dropLast()), (0...100).contains(percent) else {
                    return false
                }
                settings.tracing.sample = percent / 100
                return true
            }
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
