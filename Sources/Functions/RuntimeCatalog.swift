// SPDX-License-Identifier: Apache-2.0
import Crypto
import Glibc
import Linux
import Units

/// One way to run functions: a directory with a `runtime.yaml` and a bootstrap.
package struct RuntimeDefinition: Sendable, Equatable {
    /// What an event has to be.
    package enum Payload: String, Sendable {
        case json
        case bytes
    }

    package enum Handler: String, Sendable {
        case required
        case optional
        case none
    }

    /// How it is started ahead of any function.
    package struct Prewarm: Sendable, Equatable {
        /// What it may use until it is a function's.
        package var memory: Bytes
        /// Variables that it reads when it starts, as names or beginnings that end in `*`: a function that sets one of them
        /// gets a runtime of its own.
        package var env: [String]

        package func reads(_ variable: String) -> Bool {
            env.contains { $0.hasSuffix("*") ? variable.hasPrefix($0.dropLast()) : variable == $0 }
        }
    }

    package var name: String
    /// The root image's name.
    package var image: String
    /// The command inside the sandbox.
    package var command: [String]
    /// The executable that each function brings, in its code or in a layer: the last word of the command.
    package var program: String?
    package var handler: Handler
    package var handlerExample: String?
    package var payload: Payload
    package var environment: [String: String]
    /// What its functions see at `/proc` where they do not say otherwise.
    package var proc: ProcWish
    /// The runtime's own directory on the host.
    package var directory: String
    /// Lambda's names for it; one that ends in `*` is a prefix.
    package var lambdaNames: [String]
    /// Files of the root image that every function of this runtime needs, as patterns; the page cache of these belongs
    /// to nobody's sandbox.
    package var preload: [String]
    /// `nil` when its bootstrap cannot wait for a function.
    package var prewarm: Prewarm?
    /// Where a function of this runtime listens as an HTTP server, unless it says another port; `nil` is: none does.
    package var httpPort: Int?

    /// The command for a function of this code.
    ///
    /// - Parameters: directories on the host: what is at `/var/task` and, with layers, at `/opt`.
    package func command(code: String?, layers: String?) -> [String] {
        guard let program else { return command }
        let places = [("/var/task", code), ("/opt", layers)]
        let found = places.first { $0.1.map { Directory.hasExecutable("\($0)/\(program)") } ?? false }
        // Where there is none, starting it says so.
        return command + ["\((found ?? places[0]).0)/\(program)"]
    }

    /// The command for a function that is not known yet, which waits for it. A program of the function's own is waited for
    /// by the bridge, which becomes it.
    package var waitingCommand: [String] {
        guard let program else { return command }
        return (command.isEmpty ? [Self.bridge] : command) + ["/var/task/\(program)"]
    }

    /// The program inside the sandbox that starts functions which are programs of their own (`Sources/Bridge`).
    package static let bridge = "/.bridge"

    /// The same for as long as its description is the same, and another for any other: 64 hexadecimal digits.
    package var version: String {
        let parts =
            [name, image, program ?? ""] + command
            + environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        return Hex.encode(SHA256.hash(data: Array(parts.joined(separator: "\n").utf8)))
    }
}

/// What a function sees at `/proc`: its own processes alone, or a full procfs in which what tells of the host is covered.
package enum ProcWish: String, Codable, Sendable {
    case minimal
    case masked

    static let expected = "minimal or masked"
}

/// The runtimes that are there: one is added by adding a directory.
package struct RuntimeCatalog: Sendable {
    package private(set) var all: [RuntimeDefinition] = []
    /// What is wrong with directories that could not be used; the others work.
    package private(set) var problems: [FunctionsError] = []

    private static let keys = [
        "name", "image", "command", "program", "handler", "handler_example", "payload", "env", "lambda_names",
        "preload", "proc",
        "prewarm", "http_port",
    ]

    package init(directory: String) throws(FunctionsError) {
        let names: [String]
        do throws(SyscallError) {
            names = try Directory.list(directory)
        } catch {
            throw .invalid("no runtimes: \(error) (storage.runtimes in fn.yaml, or --runtimes)")
        }
        for name in names {
            let file = "\(directory)/\(name)/runtime.yaml"
            let text: String
            do throws(SyscallError) { text = try WholeText.read(file) } catch {
                if error.errno != ENOENT, error.errno != ENOTDIR { problems.append(.invalid("\(error)")) }
                continue
            }
            do throws(FunctionsError) {
                all.append(try Self.parse(text, file: file, directory: "\(directory)/\(name)"))
            } catch {
                problems.append(error)
            }
        }
    }

    static func parse(_ text: String, file: String, directory: String) throws(FunctionsError) -> RuntimeDefinition {
        let yaml = try StrictYAML(text, file: file, keys: keys)
        let program = try yaml.value("program", "a file name") { $0.contains("/") || $0.isEmpty ? nil : $0 }
        let command = try yaml.list("command") ?? []
        guard let name = try yaml.string("name"), let image = try yaml.string("image"),
            command.isEmpty ? program != nil : command.first?.hasPrefix("/") == true
        else {
            throw .invalid(
                "\(file): error: name, image and command (a list, first an absolute path) or program are needed"
            )
        }
        let prewarm = try prewarm(yaml)
        guard program == nil || prewarm == nil || command.isEmpty || command.first == RuntimeDefinition.bridge else {
            throw .invalid(
                "\(file): error: prewarm: a program of the function's own can be started ahead by \(RuntimeDefinition.bridge) alone, and not by \(command[0])"
            )
        }
        return RuntimeDefinition(
            name: name,
            image: image,
            command: command,
            program: program,
            handler: try yaml.value("handler", "required, optional or none") { .init(rawValue: $0) } ?? .required,
            handlerExample: try yaml.string("handler_example"),
            payload: try yaml.value("payload", "json or bytes") { .init(rawValue: $0) } ?? .json,
            environment: try yaml.map("env") ?? [:],
            proc: try yaml.value("proc", ProcWish.expected) { .init(rawValue: $0) } ?? .minimal,
            directory: directory,
            lambdaNames: try yaml.list("lambda_names") ?? [],
            preload: try yaml.list("preload") ?? [],
            prewarm: prewarm,
            httpPort: try yaml.value("http_port", "a port") { Int($0) }
        )
    }

    private static func prewarm(_ yaml: StrictYAML) throws(FunctionsError) -> RuntimeDefinition.Prewarm? {
        guard let section = try yaml.section("prewarm", keys: ["memory", "env"]) else { return nil }
        guard let memory = try section.value("memory", "a size such as 64MiB", { Bytes($0) }), memory >= .mib(4) else {
            throw section.problem("expected a size of at least 4MiB", "memory")
        }
        return RuntimeDefinition.Prewarm(memory: memory, env: try section.list("env") ?? [])
    }

    /// A runtime by its own name or by one of Lambda's.
    package func find(_ name: String) -> RuntimeDefinition? {
        all.first { $0.name == name }
            ?? all.first { runtime in
                runtime.lambdaNames.contains { $0.hasSuffix("*") ? name.hasPrefix($0.dropLast()) : name == $0 }
            }
    }
}
