// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check, show, compare and reload the configuration.",
        discussion: "fn config check fn.yaml && fn config diff fn.yaml\nfn config show --origin",
        subcommands: [Check.self, Show.self, Diff.self, Reload.self, Schema.self]
    )

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Check a file; needs no daemon.")
        @Argument(help: "The file (default /etc/fn/fn.yaml).", completion: .file()) var file: String?

        func run() throws {
            if let file { _ = try Console.readFile(file) }
            try Siblings.become(["check-config"] + (file.map { [$0] } ?? []))
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what is in force.")
        @Flag(help: "Show what is built in; needs no daemon.") var defaults = false
        @Flag(help: "Show where each value comes from.") var origin = false
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let config =
                defaults
                ? try JSONText.decode(
                    ConfigView.self,
                    from: try Siblings.output(["show-config", "--defaults", "--json"])
                )
                : try daemon.get(ConfigView.self, "/v1/config")
            list.show(config, names: config.values.map(\.path)) {
                config.values.map { "\($0.path): \($0.value)" + (origin ? "  # \($0.origin)" : "") }
                    .joined(separator: "\n")
            }
        }
    }

    struct Diff: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what a file would change of the running daemon, and change nothing.",
            discussion: "fn config diff fn.yaml\nExits with 0 when nothing would change, with 2 when something would."
        )
        @Argument(
            help: "The file, or - for standard input; without it the daemon's own, as it is now.",
            completion: .file()
        )
        var file: String?
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            // A file that is empty says something else than no file: nothing is set in it.
            let text = try file.map { $0 == "-" ? try Console.readAll(0, "standard input") : try Console.readFile($0) }
            let body = text.map { $0.isEmpty ? Array("{}".utf8) : $0 }
            let name = file.map { "?file=\(PercentEncoder.encode($0 == "-" ? "standard input" : $0))" } ?? ""
            let result = try Config.ask("/v1/config/diff\(name)", body ?? [], daemon)
            Config.show(result, list, live: "live", none: "Nothing would change.")
            if !result.changes.isEmpty { throw ExitCode(Exit.found.rawValue) }
        }
    }

    struct Reload: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Read the file again, and say what changed.")
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let result = try Config.ask("/v1/config/reload", [], daemon)
            Config.show(result, list, live: "applied", none: "Nothing changed.")
        }
    }

    struct Schema: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a JSON Schema of the file, with which editors complete and check it.",
            discussion: "fn config schema > fn.schema.json"
        )
        func run() throws { try Siblings.become(["config-schema"]) }
    }

    /// A refused file ends the program with all that is wrong with it.
    private static func ask(_ path: String, _ body: [UInt8], _ daemon: DaemonAddress) throws -> ReloadView {
        let answer = try daemon.reach { client, _ throws(ClientError) in try client.call("POST", path, body: body) }
        guard answer.status == 200 || answer.status == 422 else {
            throw daemon.failure(answer)
        }
        let result = try DaemonAddress.decode(ReloadView.self, answer.body)
        guard result.accepted else { throw Failure(.config, result.errors.joined(separator: "\n")) }
        return result
    }

    /// - Parameter live: the word for what needs no restart.
    private static func show(_ result: ReloadView, _ list: ListOutput, live: String, none: String) {
        if result.changes.isEmpty, list.isTable { return Console.error(none) }
        list.show(result, names: result.changes.map(\.path)) {
            result.changes
                .map { "\($0.path): \($0.old) -> \($0.new) [\($0.applied == "live" ? live : $0.applied)]" }
                .joined(separator: "\n")
        }
    }
}
