// SPDX-License-Identifier: Apache-2.0
import Units

/// One row of the schema: a setting, how it is read, and what it does.
package struct Setting: Sendable {
    package let path: String
    /// What a value looks like, in words, for errors and the reference page.
    package let form: String
    package let fallback: String
    /// Whether a change takes effect at once; else at the next start.
    package let isLive: Bool
    package let doc: String
    package var shape = ValueShape.text
    /// Whether nothing is a value of its own.
    package var mayBeEmpty = false
    /// Reads a value into the settings; a failure says what was expected.
    let read: @Sendable (String, inout Settings, Machine) -> Bool

    /// `FN_DEFAULTS_MEMORY` for `defaults.memory`.
    package var environmentName: String {
        "FN_" + path.uppercased().map { $0 == "." ? "_" : $0 }.map(String.init).joined()
    }
}

/// What the schema has to know of the machine.
package struct Machine: Sendable {
    /// What `%` of memory is of.
    package var memory: Bytes
    package var cpus: Int

    package init(memory: Bytes, cpus: Int) {
        self.memory = memory
        self.cpus = cpus
    }
}

/// The one table of settings: parsing, validation, defaults, environment names and documentation all come from here.
package enum Schema {
    package static let settings: [Setting] =
        host + defaults + limits + reclaim + pools + network + doors + auth + telemetry + rest

    /// Keys of one entry of the `functions` section.
    package static let overrideKeys = [
        "memory", "memory_low", "memory_high", "memory_burst", "cpus", "cpu_weight", "pids", "tmp", "timeout",
        "concurrency", "min_warm", "per_sandbox", "network", "reclaim", "io_read", "io_write", "io_weight",
    ]

    /// What flags of `fnd` are called that stand in for settings.
    package static let flags = [
        "http.listen": "listen", "socket.path": "socket", "storage.state": "state", "storage.runtimes": "runtimes",
        "storage.images": "images", "log.level": "log-level",
    ]

    package static func find(_ path: String) -> Setting? { byPath[path] }
    private static let byPath = Dictionary(uniqueKeysWithValues: settings.map { ($0.path, $0) })

    private static let host: [Setting] = [
        share("host.memory", \.host.memory, "80%", "memory that all sandboxes together may be promised"),
        bytes("host.memory_reserve", \.host.memoryReserve, "512MiB", "memory that is always left to the host"),
        choice(
            "host.promises",
            \.host.promises,
            "strict",
            "strict charges a busy sandbox its memory; measured what its calls have needed so far, with headroom"
        ),
        Setting(
            path: "host.cpus",
            form: "a number of cores such as '3.5', or a share of the machine's such as '75%'",
            fallback: "100%",
            isLive: true,
            doc: "processor time that all sandboxes together may have (cpu.max of their common group)",
            shape: .processors,
            read: { text, settings, machine in
                settings.host.cpus = nil
                let percent = text.hasSuffix("%") ? Double(text.dropLast()) : nil
                let cores = percent.map { $0 / 100 * Double(machine.cpus) } ?? Double(text)
                guard let cores, cores >= 0.01, percent ?? 0 <= 100, cores < 1_000_000 else { return false }
                if cores < Double(machine.cpus) { settings.host.cpus = CPUQuota(millis: Int(cores * 1000)) }
                return true
            }
        ),
        int("host.pids", \.host.pids, "16384", 64...4_194_304, "processes and threads of all sandboxes together"),
        Setting(
            path: "host.swap",
            form: "a size such as '4GiB', or auto",
            fallback: "auto",
            isLive: true,
            doc: "what all sandboxes together may have swapped out; auto is all the swap there is",
            shape: .either(.size, or: "auto"),
            read: { text, settings, _ in
                settings.host.swap = Bytes(text)
                return text == "auto" || settings.host.swap != nil
            }
        ),
        Setting(
            path: "host.overcommit",
            form: "a number such as '4.0', at least 1",
            fallback: "4.0",
            isLive: true,
            doc:
                "how many times host.memory the sizes of all functions may come to, each counted once, before a deployment is answered with a warning",
            shape: .number(least: 1),
            read: { text, settings, _ in
                guard let value = Double(text), value >= 1, value < 1_000_000 else { return false }
                settings.host.overcommit = value
                return true
            }
        ),
    ]

    private static let defaults: [Setting] = [
        bytes("defaults.memory", \.defaults.memory, "128MiB", least: .mib(4), "memory.max while a function runs"),
        bytes("defaults.memory_low", \.defaults.memoryLow, "0B", "protected from the host's reclaim while it runs"),
        Setting(
            path: "defaults.swap",
            form: "a size such as '256MiB', or auto",
            fallback: "auto",
            isLive: true,
            doc: "memory.swap.max of a sandbox; auto is as much as its memory",
            shape: .either(.size, or: "auto"),
            read: { text, settings, _ in
                settings.defaults.swap = Bytes(text)
                return text == "auto" || settings.defaults.swap != nil
            }
        ),
        optional(
            "defaults.memory_high",
            \.defaults.memoryHigh,
            none: "auto",
            "memory.high while a function runs: above it the kernel brakes it, hard; auto is no brake then, and close above what is used while it is frozen"
        ),
        optional(
            "defaults.memory_burst",
            \.defaults.memoryBurst,
            none: "off",
            "what memory.max may run ahead to while a call needs more than its memory and the host has it"
        ),
        cpu("defaults.cpus", \.defaults.cpus, "1", "cpu.max, in cores"),
        Setting(
            path: "defaults.init_cpus",
            form: "a number of cores such as '2', or auto",
            fallback: "auto",
            isLive: true,
            doc: "cpu.max while a runtime starts, where that is more; auto is all of the host's",
            shape: .either(.cores, or: "auto"),
            read: { text, settings, machine in
                settings.defaults.initCPUs = CPUQuota(text) ?? CPUQuota(millis: machine.cpus * 1000)
                return text == "auto" || CPUQuota(text).map { $0.millis >= 10 } == true
            }
        ),
        optional("defaults.io_read", \.defaults.ioRead, none: "max", "bytes a second from the disk (io.max)"),
        optional("defaults.io_write", \.defaults.ioWrite, none: "max", "bytes a second to the disk (io.max)"),
        int(
            "defaults.io_weight",
            \.defaults.ioWeight,
            "100",
            1...10_000,
            "io.weight against other sandboxes, where the host's disks are shared by weight"
        ),
        int("defaults.cpu_weight", \.defaults.cpuWeight, "100", 1...10_000, "cpu.weight against other sandboxes"),
        int("defaults.pids", \.defaults.pids, "128", 4...65_536, "processes and threads of one sandbox"),
        bytes("defaults.tmp", \.defaults.tmp, "64MiB", least: .mib(1), "size of /tmp, counted as memory"),
        duration("defaults.timeout", \.defaults.timeout, "3s", "time limit of one invocation"),
        duration(
            "defaults.init_timeout",
            \.defaults.initTimeout,
            "10s",
            "time a runtime has to ask for its first event"
        ),
        int("defaults.concurrency", \.defaults.concurrency, "100", 1...100_000, "sandboxes of one function at once"),
        int("defaults.min_warm", \.defaults.minWarm, "0", 0...10_000, "sandboxes of one function that are always kept"),
        int(
            "defaults.per_sandbox",
            \.defaults.perSandbox,
            "1",
            1...64,
            "requests at once in one sandbox; for sandboxes that are started from then on"
        ),
        choice(
            "defaults.network",
            \.defaults.network,
            "none",
            "what a function may reach: nothing, or with egress the public internet"
        ),
        int(
            "defaults.retries",
            \.defaults.retries,
            "2",
            0...100,
            "attempts after an asynchronous event's first one failed"
        ),
        Setting(
            path: "defaults.backoff",
            form: "durations such as '1s, 10s, 60s'",
            fallback: "1m, 2m",
            isLive: true,
            doc: "how long until the first of them, until the second and so on; the last one holds for all that follow",
            shape: .list,
            read: { text, settings, _ in
                let words = text.split(separator: ",").map { $0.filter { $0 != " " } }
                settings.defaults.backoff = words.compactMap { Duration(text: $0) }.filter { $0 > .zero }
                return !words.isEmpty && settings.defaults.backoff.count == words.count
            }
        ),
        duration(
            "defaults.max_event_age",
            \.defaults.maxEventAge,
            "6h",
            "how long an asynchronous event is tried before it is given up"
        ),
    ]

    private static let pools: [Setting] = [
        duration(
            "pools.freeze_after",
            \.pools.freezeAfter,
            "30s",
            "how long a sandbox is idle before it is frozen as it is, where it is not shrunk (reclaim off or observe)"
        ),
        duration(
            "pools.evict_after",
            \.pools.evictAfter,
            "10m",
            "how long a sandbox is idle before it ends; six times that once it is shrunk and nobody needs its room"
        ),
        int("pools.max_sandboxes", \.pools.maxSandboxes, "500", 1...100_000, "sandboxes of all functions together"),
        duration(
            "pools.queue_timeout",
            \.pools.queueTimeout,
            "10s",
            "how long a request waits for memory or a free sandbox before 429; a start in progress has init_timeout"
        ),
        Setting(
            path: "pools.prewarm",
            form: "a whole number from 0 to 1000, or one for each of some runtimes such as '{python: 2, node: 0}'",
            fallback: "4",
            isLive: true,
            doc:
                "sandboxes that wait for whichever function of their runtime needs one next, its interpreter started if it has one; of each runtime at most; how many is learnt from how many are needed at once; 0 is none, and so is what a section does not name",
            shape: .counts,
            read: { text, settings, _ in
                (settings.pools.prewarm, settings.pools.prewarmByRuntime) = (0, [:])
                if let count = Int(text) {
                    settings.pools.prewarm = count
                    return (0...1000).contains(count)
                }
                for pair in text.split(separator: ",") {
                    let parts = pair.split(separator: "=", omittingEmptySubsequences: false)
                        .map { $0.filter { $0 != " " } }
                    guard parts.count == 2, !parts[0].isEmpty, let count = Int(parts[1]), (0...1000).contains(count)
                    else {
                        return false
                    }
                    settings.pools.prewarmByRuntime[parts[0]] = count
                }
                return true
            }
        ),
        int("pools.events", \.pools.events, "64", 1...100_000, "asynchronous events that run at once"),
        int(
            "pools.ready_namespaces",
            \.pools.readyNamespaces,
            "8",
            0...1000,
            "sets of namespaces (network, IPC, UTS) and file systems (/tmp, /run/fn) kept in stock, about 0.3 MiB each; a start without one takes half a millisecond longer"
        ),
    ]

    private static let rest: [Setting] = [
        Setting(
            path: "web.enabled",
            form: "true or false",
            fallback: "true",
            isLive: true,
            doc: "whether the page at / is served",
            shape: .words(["true", "false"]),
            read: { text, settings, _ in
                settings.web.enabled = text == "true"
                return ["true", "false"].contains(text)
            }
        ),
        string("storage.state", \.storage.state, "/var/lib/fn", "deployments, code and logs"),
        string(
            "storage.runtimes",
            \.storage.runtimes,
            "auto",
            "the directory of runtimes; auto is the one that came with fnd"
        ),
        duration(
            "storage.keep_results",
            \.storage.keepResults,
            "24h",
            "how long the answers of asynchronous events are kept"
        ),
        string(
            "storage.destinations",
            \.storage.destinations,
            "auto",
            "the directory below which files may be destinations; auto is 'destinations' below storage.state"
        ),
        Setting(
            path: "storage.keep_versions",
            form: "a whole number from 1 to 100000, or all",
            fallback: "all",
            isLive: true,
            doc:
                "published versions of one function that are kept: when one more is published, the oldest goes that no alias leads to and nothing is provisioned for",
            shape: .either(.whole(1...100_000), or: "all"),
            read: { text, settings, _ in
                settings.storage.keepVersions = Int(text)
                return text == "all" || settings.storage.keepVersions.map { (1...100_000).contains($0) } == true
            }
        ),
        string("storage.images", \.storage.images, "auto", "root images; auto is 'images' below storage.state"),
    ]
}
