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
        // One function's words have no row of their own in the schema, and stand in the file.
        let paths = [path, other].compactMap { $0 }.map { path in (path, values.first { $0.path == path }?.origin) }
        switch paths.first(where: { $0.1.map { $0 != .builtIn } ?? (places[$0.0] != nil) }) {
        case (let path, .file(_, let line)?)?:
            (problem.line, problem.column) = (places[path]?.line ?? line, places[path]?.column)
        case (_, let origin?)?: problem.source = origin.description
        case (let path, nil)?: (problem.line, problem.column) = (places[path]?.line, places[path]?.column)
        case nil: break
        }
        problems.append(problem)
    }

    /// - Parameters:
    ///   - ceiling: with the name under which the operator knows it.
    private mutating func check<Value: Comparable>(
        _ value: Value?,
        _ path: String,
        under ceiling: (Value, name: String),
        _ text: (Value) -> String = { "\($0)" }
    ) {
        guard let value else { return }
        let message = "\(text(value)) is above \(ceiling.name), \(text(ceiling.0))"
        check(value <= ceiling.0, path, with: ceiling.name, message)
    }

    private mutating func findSizes() {
        let defaults = settings.defaults
        check(defaults.memoryLow, "defaults.memory_low", under: (defaults.memory, "defaults.memory"))
        check(settings.reclaim.floor, "reclaim.floor", under: (defaults.memory, "defaults.memory"))
        check(
            defaults.memoryHigh.map { defaults.memoryLow <= $0 } ?? true,
            "defaults.memory_high",
            with: "defaults.memory_low",
            "\(defaults.memoryHigh ?? .zero) is below defaults.memory_low, \(defaults.memoryLow)"
        )
        var word = FunctionOverride()
        (word.memory, word.memoryBurst) = (defaults.memory, .some(defaults.memoryBurst))
        (word.cpus, word.timeout, word.concurrency) = (defaults.cpus, defaults.timeout, defaults.concurrency)
        word.minWarm = defaults.minWarm
        findAboveCeilings(word, "defaults")
    }

    private mutating func findOverrides() {
        for (pattern, own) in settings.functions.byPattern.sorted(by: { $0.key < $1.key }) {
            findAboveCeilings(own, "functions.\(pattern)")
            // Of a pattern that says nothing of the memory it is not known which functions' that is.
            if let memory = own.memory {
                check(own.memoryLow, "functions.\(pattern).memory_low", under: (memory, "its memory"))
            }
        }
    }

    private mutating func findAboveCeilings(_ word: FunctionOverride, _ section: String) {
        let limits = settings.limits
        check(word.memory, "\(section).memory", under: (limits.memory, "limits.memory"))
        check(word.memoryBurst ?? nil, "\(section).memory_burst", under: (limits.memory, "limits.memory"))
        if let memory = word.memory, let burst = word.memoryBurst ?? nil {
            check(
                memory <= burst,
                "\(section).memory_burst",
                with: "\(section).memory",
                "\(burst) is below the memory that it goes beyond, \(memory)"
            )
        }
        if let concurrency = word.concurrency {
            check(word.minWarm, "\(section).min_warm", under: (concurrency, "\(section).concurrency"))
        }
        check(word.tmp, "\(section).tmp", under: (limits.memory, "limits.memory"))
        check(word.cpus, "\(section).cpus", under: (limits.cpus, "limits.cpus"))
        check(word.timeout, "\(section).timeout", under: (limits.timeout, "limits.timeout")) { $0.text }
        check(word.concurrency, "\(section).concurrency", under: (limits.concurrency, "limits.concurrency"))
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
