// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc
import Linux
import Units

struct Dev: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Deploy a directory, again at every change, and show what the function prints, until Ctrl-C.",
        discussion: "fn dev hello        # then, elsewhere: fn invoke hello"
    )

    @Argument(help: "The directory.", completion: .directory) var directory = "."
    @OptionGroup var what: DeployOptions
    @OptionGroup var daemon: DaemonAddress

    /// Editors write in several steps: changes are waited out until none came for so long, in milliseconds.
    private static var quiet: CInt { 200 }

    func run() throws {
        guard Siblings.isDirectory(directory) else {
            throw Failure(.notFound, "fn: \(directory) is no directory: name one to watch")
        }
        // Watched before it is read, so that no change is missed between the two.
        var watch = try DirectoryWatch.open(directory)
        try Signals.hold([SIGINT, SIGTERM, SIGHUP])
        var last = try CodeArchive.read(directory)
        let first = try deploy(last)
        Console.error(first.text)
        Console.error("Watching \(directory); Ctrl-C ends, and \(first.name) stays deployed.")
        try LogFeed(try daemon.client(), function: first.name).start()
        while true {
            let (_, signals) = Signals.wait(for: [watch.descriptor])
            if let number = signals.first { Signals.die(of: number) }
            guard try watch.take() else { continue }
            if let number = try settle(&watch) { Signals.die(of: number) }
            redeploy(&last)
        }
    }

    /// Waits until nothing changes any more; a signal that came meanwhile.
    private func settle(_ watch: inout DirectoryWatch) throws -> CInt? {
        while true {
            let (ready, signals) = Signals.wait(for: [watch.descriptor], milliseconds: Self.quiet)
            if let number = signals.first { return number }
            guard !ready.isEmpty else { return nil }
            _ = try watch.take()
        }
    }

    /// What is wrong with a change is said; the function stays as it was until the next one.
    private func redeploy(_ last: inout [UInt8]) {
        do {
            let archive = try CodeArchive.read(directory)
            guard archive != last else { return }
            last = archive
            Console.error(try deploy(archive).text)
        } catch {
            Console.error((error as? Failure)?.message ?? "fn: \(error)")
        }
    }

    private func deploy(_ archive: [UInt8]) throws -> (text: String, name: String) {
        let clock = ContinuousClock()
        let start = clock.now
        let result = try what.deploy(archive, daemon)
        let verb = result.created ? "Deployed" : "Updated"
        let function = result.function
        let took = (clock.now - start).milliseconds
        return ("\(verb) \(function.name) (rev \(function.revision), \(took) ms)", function.name)
    }
}
