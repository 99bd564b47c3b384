// SPDX-License-Identifier: Apache-2.0
import Glibc

/// How an image's program is started: what the image says, and the deployment over it.
package struct ImageSettings: Codable, Sendable, Equatable {
    /// The digest of its configuration, which is its identity: it names all layers too. In hexadecimal.
    package var id: String
    package var entrypoint: [String]
    package var command: [String]
    package var environment: [String: String]
    package var workingDirectory: String
    /// What the image would run as. Told, never used: a sandbox has a user of its own.
    package var user: String?
    /// Told, never used: a sandbox is ended as a whole.
    package var stopSignal: String?
    /// Ports of TCP that it says it listens at.
    package var exposedPorts: [Int]
    package var platform: String
    package var layers: Int

    /// Names, values and arguments together, as the kernel copies them.
    private static let limit = 128 << 10

    init(id: String, _ config: ImageDocuments.Config) throws(FunctionsError) {
        let process = config.process
        self.id = id
        (entrypoint, command) = (process?.entrypoint ?? [], process?.command ?? [])
        environment = try Self.environment(process?.environment ?? [])
        let directory = process?.workingDirectory ?? ""
        workingDirectory = directory.hasPrefix("/") ? directory : "/\(directory)"
        user = process?.user.flatMap { $0.isEmpty ? nil : $0 }
        stopSignal = process?.stopSignal
        exposedPorts = (process?.exposedPorts ?? [:]).keys.compactMap { Self.port($0) }.sorted()
        platform = "\(config.os)/\(config.architecture)"
        layers = config.rootFileSystem.layers.count
        try check()
    }

    private static func environment(_ lines: [String]) throws(FunctionsError) -> [String: String] {
        var variables: [String: String] = [:]
        for line in lines {
            guard let sign = line.firstIndex(of: "="), sign != line.startIndex else {
                throw .imageRefused("its Env holds '\(line.prefix(60))', which is no NAME=VALUE")
            }
            variables[String(line[..<sign])] = String(line[line.index(after: sign)...])
        }
        return variables
    }

    private static func port(_ text: String) -> Int? {
        let parts = text.split(separator: "/")
        guard parts.count == 1 || parts.last == "tcp", let port = parts.first.flatMap({ Int($0) }) else { return nil }
        return (1...65_535).contains(port) ? port : nil
    }

    package var arguments: [String] { entrypoint + command }

    /// What the caller says in the image's place. An entrypoint comes without the image's command, as with `docker run`.
    package mutating func override(entrypoint: [String], command: [String]) throws(FunctionsError) {
        if !entrypoint.isEmpty { (self.entrypoint, self.command) = (entrypoint, []) }
        if !command.isEmpty { self.command = command }
        try check()
        guard arguments.first?.isEmpty == false else {
            throw .imageRefused("it names no program to run: name one with --entrypoint or --command")
        }
    }

    private func check() throws(FunctionsError) {
        let texts = arguments + environment.flatMap { [$0.key, $0.value] } + [workingDirectory]
        guard !texts.contains(where: { $0.utf8.contains(0) }) else {
            throw .imageRefused("its configuration holds a NUL character")
        }
        let size = texts.reduce(0) { $0 + $1.utf8.count + 16 }
        guard size <= Self.limit, workingDirectory.utf8.count < Int(PATH_MAX) else {
            throw .imageRefused("its arguments and variables come to more than \(Self.limit >> 10) KiB")
        }
    }
}
