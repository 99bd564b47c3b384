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
    package var proc: ProcWish?
    package var network: NetworkAccess?
    package var httpPort: Int?
    package var events: EventHandling?
    package var schedules: [Schedule]?

    package init() {}

    /// Reads the file strictly: an unknown key or a wrong unit is an error with its place.
    package init(yaml text: String, file: String = "function.yaml") throws(FunctionsError) {
        let yaml = try StrictYAML(text, file: file, keys: Self.keys())
        name = try yaml.string("name")
        runtime = try yaml.string("runtime")
        handler = try yaml.string("handler")
        description = try yaml.string("description")
        memory = try yaml.value("memory", Self.form("memory")) { Bytes($0) }
        memoryBurst = try yaml.value("memory_burst", Self.form("memory_burst")) { Bytes($0) }
        cpus = try yaml.value("cpus", Self.form("cpus")) { CPUQuota($0) }
        timeoutMs = try yaml.value("timeout", Self.form("timeout")) {
            Duration(text: $0).map { Int($0.milliseconds) }
        }
        env = try yaml.map("env")
        tmp = try yaml.value("tmp", Self.form("tmp")) { Bytes($0) }
        concurrency = try yaml.value("concurrency", Self.form("concurrency")) { Int($0) }
        minWarm = try yaml.value("min_warm", Self.form("min_warm")) { Int($0) }
        perSandbox = try yaml.value("per_sandbox", Self.form("per_sandbox")) { Int($0) }
        proc = try yaml.value("proc", Self.form("proc")) { ProcWish(rawValue: $0) }
        network = try yaml.value("network", Self.form("network")) { NetworkAccess(rawValue: $0) }
        httpPort = try yaml.value("http_port", Self.form("http_port")) { Int($0) }
        events = try yaml.section("events", keys: Self.keys(of: "events"))
            .map { section throws(FunctionsError) in
                try EventHandling(section)
            }
        schedules = try yaml.sections("schedules", keys: Self.keys(of: "schedules"))
            .map { sections throws(FunctionsError) in
                try Schedule.list(sections)
            }
    }
}
