// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check, show and reload the configuration.",
        subcommands: [Check.self, Show.self, Reload.self]
    )

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Check a file; needs no daemon.")
        @Argument(help: "The file (default /etc/fn/fn.yaml).") var file: String?

        func run() throws { try Siblings.become(["check-config"] + (file.map { [$0] } ?? [])) }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what is in force.")
        @Flag(help: "Show what is built in; needs no daemon.") var defaults = false
        @Flag(help: "Show where each value comes from.") var origin = false
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            if defaults { try Siblings.become(["show-config", "--defaults"]) }
            let config = try daemon.get(ConfigView.self, "/v1/config")
            list.show(config, names: config.values.map(\.path)) {
                config.values.map { "\($0.path): \($0.value)" + (origin ? "  # \($0.origin)" : "") }
                    .joined(separator: "\n")
            }
        }
    }

    struct Reload: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Read the file again, and say what changed.")
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let answer = try daemon.reach { client throws(ClientError) in try client.call("POST", "/v1/config/reload") }
            let result = try JSONText.decode(ReloadView.self, from: answer.body)
            guard result.accepted else { throw Failure(.config, result.errors.joined(separator: "\n")) }
            if result.changes.isEmpty { Console.error("Nothing changed.") }
            for change in result.changes {
                Console.print("\(change.path): \(change.old) -> \(change.new) [\(change.applied)]")
            }
        }
    }
}
