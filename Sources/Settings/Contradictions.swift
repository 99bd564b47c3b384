// SPDX-License-Identifier: Apache-2.0
import Units

/// What is wrong only in company: each value is right by itself, and two of them do not go together.
struct Contradictions {
    private let settings: Settings
    private let values: [SettingsValue]
    private let places: [String: (line: Int, column: Int)]
    private let file: String
    private var problems: [SettingsProblem] = []

    /// - Parameter places: where values stand in the file, as far as that is known.
    static func find(
        _ settings: Settings,
        values: [SettingsValue],
        places: [String: (line: Int, column: Int)],
        file: String
    ) -> [SettingsProblem] {
        var all = Contradictions(settings: settings, values: values, places: places, file: file)
        all.findSizes()
        all.findOverrides()
        all.findDoors()
        return all.problems
    }

    private init(
        settings: Settings,
        values: [SettingsValue],
        places: [String: (line: Int, column: Int)],
        file: String
    ) {
        (self.settings, self.values, self.places, self.file) = (settings, values, places, file)
    }

    /// - Parameters:
    ///   - path: the value that is wrong.
    ///   - other: the one that it does not go with: where the first is only what is built in, somebody wrote that one.
    private mutating func check(_ isRight: Bool, _ path: String, with other: String? = nil, _ message: String) {
        guard !isRight else { return }
        var problem = SettingsProblem(source: file, message: "\(path): \(message)")
        let origins = [path, other].compactMap { $0 }
            .compactMap { path in values.first { $0.path == path }.map { (path, $0.origin) } }
        switch origins.first(where: { $0.1 != .builtIn }) {
        case (let path, .file(_, let line))?:
            (problem.line, problem.column) = (places[path]?.line ?? line, places[path]?.column)
        case (_, let origin)?: problem.source = origin.description
        // One function's, which has no row of its own in the schema.
        case nil: (problem.line, problem.column) = (places[path]?.line, places[path]?.column)
        }
        problems.append(problem)
    }

    private mutating func findSizes() {
        let (defaults, limits) = (settings.defaults, settings.limits)
        check(
            defaults.memory <= limits.memory,
            "defaults.memory",
            with: "limits.memory",
            "\(defaults.memory) is above limits.memory, \(limits.memory)"
        )
        check(
            defaults.timeout <= limits.timeout,
            "defaults.timeout",
            with: "limits.timeout",
            "\(defaults.timeout.text) is above limits.timeout, \(limits.timeout.text)"
        )
        check(
            defaults.cpus <= limits.cpus,
            "defaults.cpus",
            with: "limits.cpus",
            "\(defaults.cpus) is above limits.cpus, \(limits.cpus)"
        )
        check(
            defaults.memoryLow <= defaults.memory,
            "defaults.memory_low",
            with: "defaults.memory",
            "\(defaults.memoryLow) is above defaults.memory, \(defaults.memory)"
        )
        check(
            defaults.concurrency <= limits.concurrency,
            "defaults.concurrency",
            with: "limits.concurrency",
            "\(defaults.concurrency) is above limits.concurrency, \(limits.concurrency)"
        )
        check(
            defaults.memoryBurst ?? .zero <= limits.memory,
            "defaults.memory_burst",
            with: "limits.memory",
            "\(defaults.memoryBurst ?? .zero) is above limits.memory, \(limits.memory)"
        )
        check(
            settings.reclaim.floor <= defaults.memory,
            "reclaim.floor",
            with: "defaults.memory",
            "\(settings.reclaim.floor) is above defaults.memory, \(defaults.memory)"
        )
        check(
            defaults.memoryHigh.map { defaults.memoryLow <= $0 } ?? true,
            "defaults.memory_high",
            with: "defaults.memory_low",
            "\(defaults.memoryHigh ?? .zero) is below defaults.memory_low, \(defaults.memoryLow)"
        )
    }

    private mutating func findOverrides() {
        for (pattern, own) in settings.functions.byPattern.sorted(by: { $0.key < $1.key }) {
            func below<Value: Comparable>(_ value: Value?, _ ceiling: Value) -> Bool {
                value.map { $0 <= ceiling } ?? true
            }
            let (limits, path) = (settings.limits, "functions.\(pattern)")
            check(
                below(own.memory, limits.memory),
                "\(path).memory",
                "\(own.memory ?? .zero) is above limits.memory, \(limits.memory)"
            )
            check(
                below(own.memoryBurst ?? nil, limits.memory),
                "\(path).memory_burst",
                "\((own.memoryBurst ?? nil) ?? .zero) is above limits.memory, \(limits.memory)"
            )
            check(
                below(own.tmp, limits.memory),
                "\(path).tmp",
                "\(own.tmp ?? .zero) is above limits.memory, \(limits.memory)"
            )
            check(
                below(own.cpus, limits.cpus),
                "\(path).cpus",
                "\(own.cpus ?? .one) is above limits.cpus, \(limits.cpus)"
            )
            check(
                below(own.timeout, limits.timeout),
                "\(path).timeout",
                "\(own.timeout?.text ?? "") is above limits.timeout, \(limits.timeout.text)"
            )
            check(
                below(own.concurrency, limits.concurrency),
                "\(path).concurrency",
                "\(own.concurrency ?? 0) is above limits.concurrency, \(limits.concurrency)"
            )
            // Of a pattern that says nothing of the memory it is not known which functions' that is.
            if let memory = own.memory {
                check(
                    below(own.memoryLow, memory),
                    "\(path).memory_low",
                    "\(own.memoryLow ?? .zero) is above its memory, \(memory)"
                )
            }
        }
    }

    private mutating func findDoors() {
        let metrics = settings.metrics.listen
        check(metrics != settings.http.listen, "metrics.listen", "\(metrics ?? "") is http.listen: say same")
        check(
            metrics.map(SettingsLoader.isLoopback) ?? true || settings.auth.mode != .none,
            "metrics.listen",
            "\(metrics ?? "") is not a loopback address: set auth.mode to token, sigv4 or any, or listen on 127.0.0.1"
        )
        let shadowed = settings.network.allow.first { $0.overlaps(settings.network.subnet) }
        check(
            shadowed == nil,
            "network.allow",
            with: "network.subnet",
            "\(shadowed?.description ?? "") overlaps network.subnet, \(settings.network.subnet), where the sandboxes are: choose another subnet"
        )
        check(
            SettingsLoader.isLoopback(settings.http.listen) || settings.auth.mode != .none,
            "http.listen",
            with: "auth.mode",
            "\(settings.http.listen) is not a loopback address, and anyone who reaches it could run code as they like: "
                + "set auth.mode to token, sigv4 or any, or listen on 127.0.0.1"
        )
        check(
            settings.http.tlsKey != nil || settings.http.tlsCertificate == nil,
            "http.tls.cert",
            "a certificate needs its key: set http.tls.key"
        )
        check(
            settings.http.tlsCertificate != nil || settings.http.tlsKey == nil,
            "http.tls.key",
            "a key needs its certificate: set http.tls.cert"
        )
    }
}
