// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol

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
            Deploy.self, Invoke.self, List.self, Describe.self, Update.self, Remove.self, Sandboxes.self, Top.self,
            Memory.self, Why.self, Queue.self, Schedules.self, Simulate.self, Logs.self, Initialise.self, Config.self,
            DoctorCommand.self,
            VersionCommand.self,
            Completion.self,
        ]
    )

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Console.error(failure.message)
            endProgram(failure.code)
        } catch {
            // argument-parser's own errors: usage is 64, help is 0.
            exit(withError: error)
        }
    }
}
