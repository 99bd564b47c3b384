// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version",
        abstract: "Show the version of this program, and of the daemon if there is one."
    )
    @OptionGroup var daemon: DaemonAddress

    func run() {
        Console.print("fn \(Version.current)")
        do {
            let running = try daemon.get(VersionView.self, "/v1/version").version
            Console.print("fnd \(running)")
            if running != Version.current { Console.error("fn: install fn and fnd of the same version") }
        } catch {
            Console.error((error as? Failure)?.message ?? "fn: \(error)")
        }
    }
}
