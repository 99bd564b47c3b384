// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Testing
import Units

@testable import Settings

@Suite("fn.yaml")
struct SettingsTests {
    private let machine = Machine(memory: .gib(8), cpus: 4)

    private func load(
        _ text: String,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) throws(SettingsErrors) -> LoadedSettings {
        try SettingsLoader.load(text: text, file: "fn.yaml", environment: environment, flags: flags, machine: machine)
    }

    @Test("an empty file gives what is built in")
    func defaults() throws {
        let settings = try load("").settings
        #expect(settings.defaults.memory == .mib(128))
        #expect(settings.reclaim.idleAfter == .seconds(5))
        #expect(settings.host.memory == .gib(8) * 0.8)
        #expect(settings.http.listen == "127.0.0.1:9000")
    }

    @Test("a list is written as one of YAML's or with commas, and what is in it is checked")
    func lists() throws {
        let network = try load("network: {deny: [203.0.113.0/24, 198.51.100.7], allow: '10.1.0.0/16, 10.2.0.0/16'}")
            .settings.network
        #expect(network.deny.map(\.description) == ["203.0.113.0/24", "198.51.100.7"])
        #expect(network.allow.map(\.description) == ["10.1.0.0/16", "10.2.0.0/16"])
        #expect(try load("network: {dns: [9.9.9.9, 10.0.0.53]}").settings.network.dns?.count == 2)
        for (text, said) in [
            ("network: {deny: [10.0.0.1/8]}", "network.deny: expected a list of IPv4 addresses and blocks"),
            (
                "network: {dns: 127.0.0.53}",
                "network.dns: expected up to three IPv4 addresses, not of loopback, or auto"
            ),
            ("network: {deny: {a: b}}", "'network.deny' must be values separated by commas, or a list"),
            ("network: {subnet: [10.0.0.0/16]}", "'network.subnet' must be a single value"),
            ("network: {allow: 10.200.7.0/24}", "network.allow: 10.200.7.0/24 overlaps network.subnet, 10.200.0.0/16"),
        ] {
            let errors = #expect(throws: SettingsErrors.self) { try load(text) }
            #expect(errors?.description.contains(said) == true, "\(errors?.description ?? text)")
        }
    }

    @Test("a file with a word for every section is read as it is meant")
    func everySection() throws {
        let settings = try load(
            """
            version: 1
            host: {memory: 80%, memory_reserve: 512MiB, cpus: 50%, pids: 16384, swap: auto, overcommit: 4.0}
            defaults:
              memory: 128MiB
              memory_high: auto
              memory_low: 0B
              swap: 0B
              cpus: 1.0
              cpu_weight: 100
              io_weight: 200
              network: none
              env: {}
              retries: 2
              backoff: [1s, 10s, 60s]
            limits: {memory: 10GiB, timeout: 15m, payload: 6MiB, code: 250MiB, env: 4KiB}
            functions:
              "thumb-*": {memory: 512MiB, min_warm: 2, io_weight: 50, memory_high: 300MiB}
              billing:   {memory_low: 64MiB, reclaim: off, memory_high: auto}
            reclaim:
              mode: observe
              interval: 2s
              idle_after: 5s
              target: 0.1%
              io_target: 0.1%
              step: 5%
              backoff: 100%
              floor: 16MiB
              refaults: 100/s
              swap_stop: 80%
              grow_step: 25%
              grow_headroom: 10%
              host_pressure: {some: 10%, full: 2%, over: 10s}
            pools: {freeze_after: 30s, evict_after: 10m, prewarm: {python: 1, node: 0}, max_sandboxes: 500}
            http: {listen: "127.0.0.1:8080", tls: {cert: "", key: ""}, read_timeout: 30s, max_connections: 4096}
            socket: {path: /run/fn/fn.sock, mode: "0660", group: fn}
            auth: {mode: none, keys: /etc/fn/keys.yaml}
            network: {subnet: 10.200.0.0/16, dns: auto, deny: [169.254.0.0/16]}
            log: {level: info, format: auto, functions: {retain: 64MiB, to: file}}
            metrics: {listen: same}
            tracing: {otlp: "", sample: 1%}
            storage: {state: /var/lib/fn, keep_versions: 3}
            web: {enabled: true}
            """
        )
        .settings
        #expect(settings.host.cpus == CPUQuota(millis: machine.cpus * 500) && settings.host.pids == 16384)
        #expect(settings.host.swap == nil && settings.host.overcommit == 4)
        #expect(settings.defaults.backoff == [.seconds(1), .seconds(10), .seconds(60)])
        #expect(settings.defaults.memoryHigh == nil && settings.defaults.ioWeight == 200)
        #expect(settings.functions.override(for: "thumb-a").memoryHigh == .some(.mib(300)))
        #expect(settings.functions.override(for: "billing").memoryHigh == .some(.none))
        let reclaim = settings.reclaim
        #expect(reclaim.mode == .observe && reclaim.interval == .seconds(2) && reclaim.floor == .mib(16))
        #expect(reclaim.target == 0.001 && reclaim.ioTarget == 0.001 && reclaim.step == 0.05 && reclaim.backoff == 1)
        #expect(reclaim.refaults == 100 && reclaim.swapStop == 0.8)
        #expect(reclaim.growStep == 0.25 && reclaim.growHeadroom == 0.1)
        #expect(reclaim.hostPressure.some == 0.1 && reclaim.hostPressure.full == 0.02)
        #expect(reclaim.hostPressure.over == .seconds(10) && settings.pools.freezeAfter == .seconds(30))
        #expect(settings.pools.prewarm == 0 && settings.pools.prewarmByRuntime == ["python": 1, "node": 0])
        #expect(settings.http.tlsCertificate == nil && settings.tracing.collector == nil)
        #expect(settings.socket.group == "fn" && settings.log.functions.to == .file && settings.metrics.listen == nil)
        #expect(settings.storage.keepVersions == 3)
    }

    @Test("every built-in value passes its own check")
    func schemaIsSound() {
        for setting in Schema.settings {
            var settings = Settings()
            #expect(setting.read(setting.fallback, &settings, machine), "\(setting.path)")
        }
    }

    @Test("flags win over the environment, which wins over the file")
    func precedence() throws {
        let text = "defaults: {memory: 64MiB, timeout: 9s, pids: 50}"
        let loaded = try load(
            text,
            environment: ["FN_DEFAULTS_MEMORY": "96MiB", "FN_DEFAULTS_TIMEOUT": "8s"],
            flags: ["defaults.memory": "32MiB"]
        )
        #expect(loaded.settings.defaults.memory == .mib(32))
        #expect(loaded.settings.defaults.timeout == .seconds(8))
        #expect(loaded.settings.defaults.pids == 50)
        let origins = Dictionary(uniqueKeysWithValues: loaded.values.map { ($0.path, $0.origin.description) })
        #expect(origins["defaults.memory"] == "--defaults.memory")
        #expect(origins["defaults.timeout"] == "FN_DEFAULTS_TIMEOUT")
        #expect(origins["defaults.pids"] == "fn.yaml:1")
        #expect(origins["defaults.cpus"] == "built-in")
    }

    @Test(
        "what is wrong is said with its place, and what may have been meant",
        arguments: [
            (
                "defaults:\n  memmory: 1MiB",
                "fn.yaml:2:3: error: unknown setting 'defaults.memmory'; did you mean 'memory'?"
            ),
            ("htp: {}", "fn.yaml:1:1: error: unknown setting 'htp'; did you mean 'http'?"),
            (
                "defaults: {timeout: 30}",
                "fn.yaml:1:21: error: defaults.timeout: expected a duration such as '30s' or '250ms', got '30'"
            ),
            (
                "defaults: {cpu_weight: 0}",
                "fn.yaml:1:24: error: defaults.cpu_weight: expected a whole number from 1 to 10000, got '0'"
            ),
            (
                "host: {memory: 9GiB}",
                "fn.yaml:1:16: error: host.memory: expected a size such as '8GiB' or a share of the machine's memory such as '80%', not more than it has, got '9GiB'"
            ),
            (
                "reclaim: {mode: sometimes}",
                "fn.yaml:1:17: error: reclaim.mode: expected one of auto, observe, off, got 'sometimes'"
            ),
            (
                "functions: {a: {memroy: 1MiB}}",
                "fn.yaml:1:17: error: unknown setting 'functions.a.memroy'; did you mean 'memory'?"
            ),
            (
                "functions: {a: {memory: 1}}",
                "fn.yaml:1:25: error: functions.a.memory: expected a size such as '256MiB', at least 4MiB, got '1'"
            ),
            (
                "functions: {a: {io_read: fast, tmp: 1KiB, memory_burst: off, io_write: max}}",
                "fn.yaml:1:26: error: functions.a.io_read: expected a size such as '256MiB', or max, got 'fast'\nfn.yaml:1:37: error: functions.a.tmp: expected a size such as '256MiB', at least 1MiB, got '1KiB'"
            ),
            (
                "functions: {'a*b': {memory: 1GiB}}",
                "fn.yaml:1:13: error: functions: 'a*b' matches no function: expected a name of A-Z, a-z, 0-9, - and _, or the beginning of one and a *"
            ),
            (
                "memory: 1GiB",
                "fn.yaml:1:1: error: unknown setting 'memory'; did you mean 'host.memory', 'defaults.memory' or 'limits.memory'?"
            ),
            (
                "defaults: {evict_after: 1m}",
                "fn.yaml:1:12: error: unknown setting 'defaults.evict_after'; did you mean 'pools.evict_after'?"
            ),
            (
                "reclaim: {step: 0%, refaults: 100, host_pressure: {some: 1}}",
                """
                fn.yaml:1:17: error: reclaim.step: expected a share such as '25%', from 1% to 100%, got '0%'
                fn.yaml:1:31: error: reclaim.refaults: expected a rate such as '4000/s', got '100'
                fn.yaml:1:58: error: reclaim.host_pressure.some: expected a share such as '5%', from 0% to 100%, got '1'
                """
            ),
            (
                "defaults: {backoff: [1s, 10]}",
                "fn.yaml:1:21: error: defaults.backoff: expected durations such as '1s, 10s, 60s', got '1s,10'"
            ),
            (
                "pools: {prewarm: {python: many}}",
                "fn.yaml:1:18: error: pools.prewarm: expected a whole number from 0 to 1000, or one for each of some runtimes such as '{python: 2, node: 0}', got 'python=many'"
            ),
            (
                "functions: {a: {memory: 20GiB, timeout: 1h}, 'b*': {memory: 64MiB, memory_low: 65MiB, cpus: 17}}",
                """
                fn.yaml:1:25: error: functions.a.memory: 20GiB is above limits.memory, 10GiB
                fn.yaml:1:41: error: functions.a.timeout: 1h is above limits.timeout, 15m
                fn.yaml:1:80: error: functions.b*.memory_low: 65MiB is above its memory, 64MiB
                fn.yaml:1:93: error: functions.b*.cpus: 17 is above limits.cpus, 16
                """
            ),
            (
                "http: {tls.cert: a}\ndefaults.memory: 1GiB",
                """
                fn.yaml:1:8: error: 'http.tls.cert' is a setting within a section: write http: {tls: {cert: …}}
                fn.yaml:2:1: error: 'defaults.memory' is a setting within a section: write defaults: {memory: …}
                """
            ),
            ("pools: {prewarm: [1]}", "fn.yaml:1:9: error: 'pools.prewarm' must be a number, or a section of numbers"),
            (
                "host: {cpus: 101%}",
                "fn.yaml:1:14: error: host.cpus: expected a number of cores such as '3.5', or a share of the machine's such as '75%', got '101%'"
            ),
            ("reclaim: {floor: 200MiB}", "fn.yaml:1:18: error: reclaim.floor: 200MiB is above defaults.memory, 128MiB"),
            (
                "defaults: {memory_low: 64MiB, memory_high: 32MiB}",
                "fn.yaml:1:44: error: defaults.memory_high: 32MiB is below defaults.memory_low, 64MiB"
            ),
            (
                "metrics: {listen: '0.0.0.0:9100'}",
                "fn.yaml:1:19: error: metrics.listen: 0.0.0.0:9100 is not a loopback address: set auth.mode to token, sigv4 or any, or listen on 127.0.0.1"
            ),
            (
                "metrics: {listen: '127.0.0.1:9000'}",
                "fn.yaml:1:19: error: metrics.listen: 127.0.0.1:9000 is http.listen: say same"
            ),
            ("defaults: {env: {A=B: c}}", "fn.yaml:1:18: error: defaults.env: 'A=B' is no name of a variable"),
            ("\u{1}", "fn.yaml: error: this is no text: control characters are not allowed"),
            ("version: 2", "fn.yaml:1:10: error: version: this daemon reads version 1"),
            ("defaults: 3", "fn.yaml:1:11: error: 'defaults' must be a section with settings in it"),
            (
                "limits: {concurrency: 50}",
                "fn.yaml:1:23: error: defaults.concurrency: 100 is above limits.concurrency, 50"
            ),
            (
                "defaults: {memory_burst: 11GiB}",
                "fn.yaml:1:26: error: defaults.memory_burst: 11GiB is above limits.memory, 10GiB"
            ),
            ("limits: {memory: 64MiB}", "fn.yaml:1:18: error: defaults.memory: 128MiB is above limits.memory, 64MiB"),
            (
                "http: {listen: '0.0.0.0:9000'}",
                "fn.yaml:1:16: error: http.listen: 0.0.0.0:9000 is not a loopback address, and anyone who reaches it could run code as they like: set auth.mode to token, sigv4 or any, or listen on 127.0.0.1"
            ),
            (
                "http:\n  tls: {cert: a.pem}",
                "fn.yaml:2:15: error: http.tls.cert: a certificate needs its key: set http.tls.key"
            ),
            ("http: {tls: {cret: a}}", "fn.yaml:1:14: error: unknown setting 'http.tls.cret'; did you mean 'cert'?"),
            (
                "auth: {mode: basic}",
                "fn.yaml:1:14: error: auth.mode: expected one of none, token, sigv4, any, got 'basic'"
            ),
        ]
    )
    func problems(text: String, message: String) {
        let errors = #expect(throws: SettingsErrors.self) { try load(text) }
        #expect(errors?.description == message)
    }

    @Test("a public address needs authentication, wherever it is named")
    func publicAddress() throws {
        let (mode, listen) = (["auth.mode": "token"], ["http.listen": "0.0.0.0:9000"])
        #expect(try load("", flags: mode.merging(listen) { $1 }).settings.auth.mode == .token)
        let errors = #expect(throws: SettingsErrors.self) { try load("", flags: listen) }
        #expect(errors?.problems.first?.source == "--listen")
        let other = #expect(throws: SettingsErrors.self) {
            try load("", environment: ["FN_HTTP_LISTEN": "[::]:9000", "FN_AUTH_MODE": "none"])
        }
        #expect(other?.problems.first?.source == "FN_HTTP_LISTEN")
    }

    @Test("a variable that is misspelt is an error, one that is somebody else's is not")
    func misspeltVariables() throws {
        let errors = #expect(throws: SettingsErrors.self) { try load("", environment: ["FN_DEFAULTS_MEMMORY": "1GiB"]) }
        #expect(
            errors?.description
                == "FN_DEFAULTS_MEMMORY: error: unknown setting; did you mean 'FN_DEFAULTS_MEMORY'?"
        )
        let others = [
            "FN_URL", "FN_SOCKET", "FN_TOKEN", "FN_OUTPUT", "FN_TIMEOUT", "FN_CONFIG", "FN_RUNTIMES",
            "FN_HTTP_PORT", "FN_HTTP_SERVICE_HOST", "FN_WEB_PORT", "FN_PORT",
        ]
        _ = try load("", environment: Dictionary(uniqueKeysWithValues: others.map { ($0, "x") }))
    }

    @Test("all problems are listed at once, in the order of the file")
    func allProblems() {
        let errors = #expect(throws: SettingsErrors.self) { try load("a: 1\nb: 2\ndefaults: {memory: x}\n") }
        #expect(errors?.problems.map(\.line) == [1, 2, 3])
    }

    @Test("a key that stands twice is an error, and so is broken YAML")
    func broken() {
        #expect(throws: SettingsErrors.self) { try load("defaults: {memory: 64MiB, memory: 65MiB}") }
        #expect(throws: SettingsErrors.self) { try load("defaults: {") }
    }

    @Test("an exact name beats the longest prefix, which beats shorter ones")
    func overrides() throws {
        let text = """
            functions:
              "a*": {memory: 10MiB}
              "abc*": {memory: 20MiB, reclaim: off}
              abcd: {memory: 30MiB}
            """
        let functions = try load(text).settings.functions
        #expect(functions.override(for: "ax").memory == .mib(10))
        #expect(functions.override(for: "abcx").memory == .mib(20))
        #expect(functions.override(for: "abcx").reclaim == false)
        #expect(functions.override(for: "abcd").memory == .mib(30))
        #expect(functions.override(for: "abcd").reclaim == false, "what it does not say itself is said of all abc*")
        #expect(functions.override(for: "z").memory == nil)
        let words = try load("functions: {a: {memory_burst: off, io_read: max}}").settings.functions.override(for: "a")
        #expect(words.memoryBurst == .some(.none) && words.ioRead == .some(.none))
        #expect(words.ioWrite == .none, "what is not said is no word")
    }

    @Test("a bad file changes nothing; a good one is told with what changed and what has to wait")
    func reload() throws {
        let path = "/tmp/ebb-settings-\(getpid()).yaml"
        defer { unsafe unlink(path) }
        func write(_ text: String) throws {
            unsafe unlink(path)
            close(unsafe open(path, O_CREAT | O_WRONLY, 0o600))
            try KernelFile.write(path, text)
        }
        try write("defaults: {memory: 64MiB}")
        let source = try SettingsSource(file: path, isRequired: true, environment: [:], flags: [:], machine: machine)
        try write("defaults: {memory: lots}")
        guard case .refused = source.reload() else {
            Issue.record("a bad file was accepted")
            return
        }
        #expect(source.current.settings.defaults.memory == .mib(64))
        try write("defaults: {memory: 96MiB}\nsocket: {mode: '0600'}")
        let result = source.reloadIfChanged()
        #expect(
            result
                == .accepted([
                    SettingsChange(path: "defaults.memory", old: "64MiB", new: "96MiB", isApplied: true),
                    SettingsChange(path: "socket.mode", old: "0660", new: "0600", isApplied: false),
                ])
        )
        #expect(source.current.settings.socket.mode == "0660", "what waits for a restart is as it was")
        #expect(source.current.revision == 2)
        #expect(source.reloadIfChanged() == nil)
        unsafe unlink(path)
        #expect(source.reloadIfChanged() == nil, "a file that has gone changes nothing")
    }

    @Test("what is live has to go with what waits for a restart, too")
    func waitingContradiction() throws {
        let path = "/tmp/ebb-settings-waiting-\(getpid()).yaml"
        defer { unsafe unlink(path) }
        func write(_ text: String) throws {
            unsafe unlink(path)
            close(unsafe open(path, O_CREAT | O_WRONLY, 0o600))
            try KernelFile.write(path, text)
        }
        try write("")
        let source = try SettingsSource(file: path, isRequired: true, environment: [:], flags: [:], machine: machine)
        try write("network: {subnet: 10.77.0.0/16, allow: 10.200.7.0/24}")
        guard case .refused(let errors) = source.reload() else {
            Issue.record("functions may now reach each other")
            return
        }
        #expect(errors.description.contains("10.200.7.0/24 overlaps network.subnet, 10.200.0.0/16"))
    }

    @Test("the reference page is what the schema says")
    func referencePage() throws {
        let here = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let page = "/\(here)/docs/configuration.md"
        if unsafe getenv("EBB_UPDATE_DOCS") != nil {
            unsafe unlink(page)
            close(unsafe open(page, O_CREAT | O_WRONLY, 0o644))
            try KernelFile.write(page, Schema.markdown)
        }
        #expect(try KernelFile.read(page) == Schema.markdown, "run the tests with EBB_UPDATE_DOCS=1")
    }
}
