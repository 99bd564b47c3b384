// SPDX-License-Identifier: Apache-2.0
import Units

/// What `function.yaml` says, beside a function's code.
package struct Manifest: Sendable, Equatable {
    package var name: String?
    package var runtime: String?
    package var handler: String?
    package var description: String?
    package var memory: Bytes?
    package var memoryBurst: Bytes?
    package var cpus: CPUQuota?
    package var timeoutMs: Int?
    package var env: [String: String]?
    package var tmp: Bytes?
    package var concurrency: Int?
    package var minWarm: Int?
    package var perSandbox: Int?
    package var httpPort: Int?
    package var events: EventHandling?
    package var schedules: [Schedule]?

    package init() {}

    private static let keys = [
        "name", "runtime", "handler", "description", "memory", "memory_burst", "cpus", "timeout", "env", "tmp",
        "concurrency",
        "min_warm", "per_sandbox", "http_port", "events", "schedules",
    ]

    /// Reads the file strictly: an unknown key or a wrong unit is an error with its place.
    package init(yaml text: String, file: String = "function.yaml") throws(FunctionsError) {
        let yaml = try StrictYAML(text, file: file, keys: Self.keys)
        name = try yaml.string("name")
        runtime = try yaml.string("runtime")
        handler = try yaml.string("handler")
        description = try yaml.string("description")
        memory = try yaml.value("memory", "a size such as '256MiB'") { Bytes($0) }
        memoryBurst = try yaml.value("memory_burst", "a size such as '512MiB'") { Bytes($0) }
        cpus = try yaml.value("cpus", "a number of cores such as '0.5'") { CPUQuota($0) }
        timeoutMs = try yaml.value("timeout", "a duration such as '30s'") {
            Duration(text: $0).map { Int($0.milliseconds) }
        }
        env = try yaml.map("env")
        tmp = try yaml.value("tmp", "a size such as '64MiB'") { Bytes($0) }
        concurrency = try yaml.value("concurrency", "a whole number") { Int($0) }
        minWarm = try yaml.value("min_warm", "a whole number") { Int($0) }
        perSandbox = try yaml.value("per_sandbox", "a whole number from 1 to 64") { Int($0) }
        httpPort = try yaml.value("http_port", "a whole number from 1024 to 65535") { Int($0) }
        events = try yaml.section("events", keys: EventHandling.keys)
            .map { section throws(FunctionsError) in
                try EventHandling(section)
            }
        schedules = try yaml.sections("schedules", keys: Schedule.keys)
            .map { sections throws(FunctionsError) in
                try Schedule.list(sections)
            }
    }
}
