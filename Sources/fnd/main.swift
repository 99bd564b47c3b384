// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Daemon
import FnProtocol
import Foundation
import Functions
import Gateway
import Settings

// Before anything else: this process is somebody else's helper and has no command line for people.
if CommandLine.arguments.dropFirst().first == ImagePreload.verb {
    exit(ImagePreload.run(Array(CommandLine.arguments.dropFirst(2))))
}

/// The daemon's command line.
struct Fnd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fnd",
        abstract: "The Ebb daemon: holds the sandboxes and serves requests.",
        version: Version.current,
        subcommands: [Serve.self, CheckConfig.self, ShowConfig.self, ConfigSchema.self, RunDoctor.self, Manual.self],
        defaultSubcommand: Serve.self
    )
}

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve until stopped (the default)."
    )

    @Option(help: "Configuration file (default /etc/fn/fn.yaml, if it is there; $FN_CONFIG).") var config: String?
    @Option(help: "Address for HTTP, in place of http.listen.") var listen: String?
    @Option(help: "Unix socket, in place of socket.path.") var socket: String?
    @Option(help: "State directory, in place of storage.state.") var state: String?
    @Option(help: "Runtimes directory, in place of storage.runtimes.") var runtimes: String?
    @Option(help: "Root images directory, in place of storage.images.") var images: String?
    @Option(help: "Cgroup to build below, in place of the one that is found.") var cgroupRoot: String?
    @Option(help: "Log level, in place of log.level.") var logLevel: String?
    @Flag(help: "Run without limits on a host that cannot enforce them: for development, on loopback only.")
    var allowUnenforcedLimits = false

    func run() throws {
        var options = DaemonOptions()
        options.configFile = config
        options.allowUnenforcedLimits = allowUnenforcedLimits
        options.cgroupRoot = cgroupRoot
        let flags = [
            "http.listen": listen, "socket.path": socket, "storage.state": state, "storage.runtimes": runtimes,
            "storage.images": images, "log.level": logLevel,
        ]
        options.flags = flags.compactMapValues { $0 }
        do {
            let daemon = try Daemon(options, environment: ProcessInfo.processInfo.environment)
            try daemon.serve()
            Signals.handle(daemon)
        } catch StartError.settings(let errors) {
            Report.fail("\(errors)", code: 78)
        } catch StartError.stopped {
            Foundation.exit(0)
        } catch {
            let text = "\(error)"
            Report.fail(text.hasPrefix("fnd: ") ? text : "fnd: \(text)", code: 1)
        }
    }
}

struct CheckConfig: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Check a configuration file."
    )
    @Argument(help: "The file (default /etc/fn/fn.yaml).") var file: String?

    func run() throws {
        let loaded = Configured.load(file)
        let isThere = FileManager.default.fileExists(atPath: Configured.file(file))
        print(
            "\(Configured.file(file)): \(isThere ? "valid" : "not there, which is fine"), \(loaded.values.count { $0.origin != .builtIn }) of \(loaded.values.count) settings changed"
        )
    }
}

struct ShowConfig: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "show-config", abstract: "Show the configuration.")
    @Argument(help: "The file (default /etc/fn/fn.yaml).") var file: String?
    @Flag(help: "Show what is built in.") var defaults = false
    @Flag(help: "Show where each value comes from.") var origin = false
    @Flag(help: "As JSON, with everything.") var json = false

    func run() throws {
        let view = ConfigView(defaults ? Configured.builtIn() : Configured.load(file))
        guard !json else { return print(JSONText.encode(view, pretty: true)) }
        for value in view.values { print("\(value.path): \(value.value)" + (origin ? "  # \(value.origin)" : "")) }
    }
}

struct ConfigSchema: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config-schema",
        abstract: "Print a JSON Schema of the configuration file, for editors."
    )

    func run() { print(JSONText.encode(Schema.json, pretty: true)) }
}

/// What scripts/manuals makes pages of: they are true of the program that prints them.
struct Manual: ParsableCommand {
    enum Page: String, ExpressibleByArgument, CaseIterable {
        case settings = "fn.yaml"
        case manifest = "function.yaml"
    }
    static let configuration = CommandConfiguration(
        commandName: "manual",
        abstract: "Print a manual page of a file, from its first section on.",
        shouldDisplay: false
    )
    @Argument(help: "fn.yaml or function.yaml.") var page: Page

    func run() { print(page == .settings ? Schema.manual : Manifest.manual, terminator: "") }
}

struct RunDoctor: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "doctor", abstract: "Check this host.")
    @Option(name: .shortAndLong, help: "Output: table or json.") var output = "table"

    func run() throws {
        let environment = ProcessInfo.processInfo.environment
        var problem: String?
        var settings = Settings()
        do throws(SettingsErrors) {
            settings = try Configured.loadOrThrow(nil).settings
        } catch {
            problem = error.description
            settings = (try? SettingsLoader.load(text: nil, file: "", machine: .current))?.settings ?? settings
        }
        let places = Places(settings, environment: environment)
        let report = Doctor(settings: settings, places: places, configProblem: problem).report()
        print(JSONText.encode(report, pretty: true))
        if report.hasFailures { throw ExitCode(2) }
    }
}

/// Reading the configuration without a daemon.
enum Configured {
    static func file(_ file: String?) -> String {
        file ?? ProcessInfo.processInfo.environment["FN_CONFIG"] ?? "/etc/fn/fn.yaml"
    }

    static func loadOrThrow(_ named: String?) throws(SettingsErrors) -> LoadedSettings {
        let source = try SettingsSource(
            file: file(named),
            isRequired: named != nil || ProcessInfo.processInfo.environment["FN_CONFIG"] != nil,
            environment: ProcessInfo.processInfo.environment,
            flags: [:],
            machine: .current
        )
        return source.current
    }

    static func load(_ named: String?) -> LoadedSettings {
        orFail { () throws(SettingsErrors) in try loadOrThrow(named) }
    }

    static func builtIn() -> LoadedSettings {
        orFail { () throws(SettingsErrors) in try SettingsLoader.load(text: nil, file: "", machine: .current) }
    }

    private static func orFail(_ body: () throws(SettingsErrors) -> LoadedSettings) -> LoadedSettings {
        do throws(SettingsErrors) {
            return try body()
        } catch {
            Report.fail(error.description, code: 78)
        }
    }
}

enum Report {
    static func fail(_ text: String, code: Int32) -> Never {
        FileHandle.standardError.write(Data("\(text)\n".utf8))
        exit(code)
    }
}

/// SIGTERM and SIGINT stop the daemon, SIGHUP reloads its configuration.
enum Signals {
    static func handle(_ daemon: Daemon) -> Never {
        var wanted = sigset_t()
        unsafe sigemptyset(&wanted)
        for number in [SIGTERM, SIGINT, SIGHUP] { unsafe sigaddset(&wanted, number) }
        while true {
            var number: Int32 = 0
            guard unsafe sigwait(&wanted, &number) == 0 else { continue }
            guard number == SIGHUP else { break }
            daemon.reload()
        }
        daemon.stop()
        exit(0)
    }

    /// Before any thread is started, so that all of them leave these signals to the one that waits.
    static func block() {
        var wanted = sigset_t()
        unsafe sigemptyset(&wanted)
        for number in [SIGTERM, SIGINT, SIGHUP] { unsafe sigaddset(&wanted, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &wanted, nil)
    }
}

Signals.block()
do {
    var command = try Fnd.parseAsRoot()
    try command.run()
} catch  where Fnd.exitCode(for: error) == .validationFailure {
    let what = Fnd.message(for: error).split(separator: "\n").first ?? "wrong usage"
    Report.fail("fnd: \(what) (see 'fnd serve --help')", code: 64)
} catch {
    Fnd.exit(withError: error)
}
