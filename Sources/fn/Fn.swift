// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol
import Units

/// The command line. Synchronous throughout: a fully static program with an asynchronous `main` starts 10 ms later.
@main
struct Fn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fn",
        abstract: "Run functions in sandboxes whose limits move while they live.",
        discussion: """
            fn deploy Examples/hello-python
            fn invoke hello-python -d '{"name": "Ebb"}'
            """,
        version: Version.current,
        subcommands: [
            Deploy.self, Dev.self, Invoke.self, List.self, Describe.self, Update.self, Size.self, Remove.self,
            Sandboxes.self, Top.self, Memory.self, Why.self, Queue.self, Schedules.self, Simulate.self, Logs.self,
            Initialise.self, Config.self, DoctorCommand.self,
            VersionCommand.self,
            Completion.self,
        ]
    )

    static func main() {
        Console.fillGaps()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Console.error(failure.message)
            endProgram(failure.code)
        } catch let error as BrokenOff {
            Console.error(error.failure.message)
            endProgram(error.failure.code)
        } catch  where exitCode(for: error) == .validationFailure {
            Console.error(usageLine(error))
            endProgram(Exit.usage.rawValue)
        } catch is DecodingError {
            Console.error("fn: what answers is no fnd of this version (\(Version.current)); see fn version")
            endProgram(Exit.failed.rawValue)
        } catch {
            // argument-parser's way to say help, a version, or an exit code of ours.
            exit(withError: error)
        }
    }

    /// One line: what is wrong, what may have been meant, and where to read more.
    private static func usageLine(_ error: any Error) -> String {
        let what = message(for: error).split(separator: "\n").first ?? "wrong usage"
        let help = fullMessage(for: error).split(separator: "'").first { $0.hasSuffix("--help") } ?? "fn --help"
        return "fn: \(what)\(verbHint) (see '\(help)')"
    }

    private static var verbHint: String {
        let verbs = configuration.subcommands.map { $0.configuration.commandName ?? "\($0)".lowercased() }
        guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-"), !verbs.contains(word) else {
            return ""
        }
        return Spelling.nearest(word, among: verbs).map { "; did you mean '\($0)'?" } ?? ""
    }
}
