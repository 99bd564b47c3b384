// SPDX-License-Identifier: Apache-2.0
import Units

/// Where a value in force comes from.
package enum SettingsOrigin: Sendable, Equatable, CustomStringConvertible {
    case builtIn
    case file(String, line: Int)
    case environment(String)
    case flag(String)

    package var description: String {
        switch self {
        case .builtIn: "built-in"
        case .file(let path, let line): "\(path):\(line)"
        case .environment(let name): name
        case .flag(let name): "--\(name)"
        }
    }
}

/// One value in force, as text.
package struct SettingsValue: Sendable, Equatable {
    package var path: String
    package var text: String
    package var origin: SettingsOrigin
}

/// Settings that passed every check, with where each value came from.
package struct LoadedSettings: Sendable, Equatable {
    package var settings: Settings
    package var values: [SettingsValue]
    /// What `functions` and `defaults.env` say, which have no row in the schema for each key.
    package var entries: [SettingsValue] = []
    /// Counts accepted versions, from 1.
    package var revision = 1
}

/// Puts settings together: flags over environment over file over what is built in.
package enum SettingsLoader {
    /// - Parameters:
    ///   - text: the file's contents; `nil` when there is no file.
    ///   - file: its path, for error messages.
    ///   - flags: values by path, from the command line.
    /// - Throws: every problem at once.
    package static func load(
        text: String?,
        file: String,
        environment: [String: String] = [:],
        flags: [String: String] = [:],
        machine: Machine
    ) throws(SettingsErrors) -> LoadedSettings {
        let parsed = SettingsFile(text: text ?? "", file: file)
        var problems = misspelt(environment) + parsed.problems
        var settings = Settings()
        var values: [SettingsValue] = []
        for setting in Schema.settings {
            var (value, origin) = (setting.fallback, SettingsOrigin.builtIn)
            var place: (line: Int, column: Int)?
            if let written = parsed.values[setting.path] {
                (value, origin) = (written.text, .file(file, line: written.line))
                place = (written.line, written.column)
            }
            if let text = environment[setting.environmentName] {
                (value, origin, place) = (text, .environment(setting.environmentName), nil)
            }
            if let text = flags[setting.path] {
                (value, origin, place) = (text, .flag(Schema.flags[setting.path] ?? setting.path), nil)
            }
            if !setting.read(value, &settings, machine) {
                let source = place == nil ? origin.description : file
                let message = "\(setting.path): expected \(setting.form), got '\(value)'"
                problems.append(
                    SettingsProblem(source: source, line: place?.line, column: place?.column, message: message)
                )
            }
            values.append(SettingsValue(path: setting.path, text: value, origin: origin))
        }
        settings.defaults.env = parsed.environment
        settings.functions.byPattern = parsed.overrides
        if problems.isEmpty {
            problems = Contradictions.find(settings, values: values, places: parsed.places, file: file)
        }
        guard problems.isEmpty else {
            throw SettingsErrors(
                problems: problems.sorted { ($0.line ?? 0, $0.column ?? 0) < ($1.line ?? 0, $1.column ?? 0) }
            )
        }
        return LoadedSettings(settings: settings, values: values, entries: parsed.entries)
    }

    /// Variables that are ours but for a letter or two. Others that begin with `FN_` may be anybody's: a container engine
    /// sets some for every service that is called `fn-…`.
    private static func misspelt(_ environment: [String: String]) -> [SettingsProblem] {
        let known = Schema.settings.map(\.environmentName)
        return environment.keys.filter { $0.hasPrefix("FN_") && !known.contains($0) }.sorted()
            .compactMap { name in
                guard let near = known.first(where: { Spelling.distance(name, $0) <= 2 }) else { return nil }
                return SettingsProblem(source: name, message: "unknown setting; did you mean '\(near)'?")
            }
    }

    /// What a file that was read again comes to in a daemon that runs: whatever waits for a restart is as it started.
    ///
    /// - Throws: when what is live and what it started with do not go together.
    static func inForce(
        _ new: LoadedSettings,
        startedWith started: LoadedSettings,
        file: String,
        machine: Machine
    ) throws(SettingsErrors) -> LoadedSettings {
        var result = new
        for (setting, value) in zip(Schema.settings, started.values) where !setting.isLive {
            _ = setting.read(value.text, &result.settings, machine)
        }
        let problems = Contradictions.find(result.settings, values: new.values, places: [:], file: file)
        guard problems.isEmpty else { throw SettingsErrors(problems: problems) }
        return result
    }

    /// Whether an address can only be reached from this machine.
    package static func isLoopback(_ address: String) -> Bool {
        let host = address[..<(address.lastIndex(of: ":") ?? address.endIndex)]
        return host.hasPrefix("127.") || host == "localhost" || host == "[::1]"
    }
}
