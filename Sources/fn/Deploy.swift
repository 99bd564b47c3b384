// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Units

/// Sizes on the command line, shared by `deploy` and `update`.
struct LimitOptions: ParsableArguments {
    @Option(help: "Memory, such as 256MiB.") var memory: String?
    @Option(help: "What memory may grow to while a call needs it, such as 512MiB; 0B ends it.") var memoryBurst: String?
    @Option(help: "Processor time in cores, such as 0.5.") var cpus: String?
    @Option(help: "Time limit of one invocation, such as 30s.") var timeout: String?
    @Option(help: "Size of /tmp, such as 64MiB.") var tmp: String?
    @Option(help: "Sandboxes at once.") var concurrency: Int?
    @Option(help: "Sandboxes that are always kept.") var minWarm: Int?
    @Option(help: "Requests at once in one sandbox.") var perSandbox: Int?
    @Option(help: "What it may reach: none, or egress for the internet.", completion: .list(["none", "egress"]))
    var network: String?
    @Option(help: "A variable for the function, NAME=VALUE; may be repeated.") var env: [String] = []

    func request() throws -> UpdateRequest {
        var request = UpdateRequest()
        request.memory = try read("--memory", memory, "a size such as 256MiB") { Bytes($0)?.count }
        request.memoryBurst = try read("--memory-burst", memoryBurst, "a size such as 512MiB") { Bytes($0)?.count }
        request.cpus = try read("--cpus", cpus, "a number of cores such as 0.5") { CPUQuota($0)?.millis }
        request.timeoutMs = try read("--timeout", timeout, "a duration such as 30s") {
            Duration(text: $0).map { Int($0.milliseconds) }
        }
        request.tmp = try read("--tmp", tmp, "a size such as 64MiB") { Bytes($0)?.count }
        request.concurrency = concurrency
        request.minWarm = minWarm
        request.perSandbox = perSandbox
        request.network = try read("--network", network, "none or egress") { NetworkAccess(rawValue: $0) }
        for pair in env {
            guard let sign = pair.firstIndex(of: "="), sign != pair.startIndex else {
                throw Failure(.usage, "fn: --env: expected NAME=VALUE, got '\(pair)'")
            }
            request.env = (request.env ?? [:])
                .merging([String(pair[..<sign]): String(pair[pair.index(after: sign)...])]) { $1 }
        }
        return request
    }

    private func read<Value>(
        _ flag: String,
        _ text: String?,
        _ form: String,
        _ parse: (String) -> Value?
    ) throws -> Value? {
        guard let text else { return nil }
        guard let value = parse(text) else { throw Failure(.usage, "fn: \(flag): expected \(form), got '\(text)'") }
        return value
    }
}

/// What is deployed besides code: what the command line says over `function.yaml`.
struct DeployOptions: ParsableArguments {
    @Option(help: "The function's name.") var name: String?
    @Option(help: "The runtime, such as python.", completion: .runtimes) var runtime: String?
    @Option(help: "The handler, such as handler.handle.") var handler: String?
    @OptionGroup var limits: LimitOptions

    func deploy(_ archive: [UInt8], _ daemon: DaemonAddress) throws -> DeployResult {
        var request = DeployRequest(code: Base64.encode(archive))
        request.limits = try limits.request()
        (request.name, request.runtime, request.handler) = (name, runtime, handler)
        let answer = try daemon.call("PUT", "/v1/functions", body: Array(JSONText.encode(request).utf8))
        return try DaemonAddress.decode(DeployResult.self, answer.body)
    }
}

/// What is said of a container image.
struct ImageOptions: ParsableArguments {
    @Option(
        help:
            "A container image in place of code: a file as `docker save` writes it, the directory or archive of an OCI layout, or - for standard input.",
        completion: .file()
    )
    var image: String?
    @Option(
        help:
            "Where the image's program listens as an HTTP server; 0 for one that speaks the Lambda Runtime API. Default is the port that the image exposes."
    )
    var port: Int?
    @Option(
        parsing: .unconditionalSingleValue,
        help: "The program, in place of the image's; may be repeated, a word each."
    )
    var entrypoint: [String] = []
    @Option(
        parsing: .unconditionalSingleValue,
        help: "Its arguments, in place of the image's; may be repeated, a word each."
    )
    var command: [String] = []

    var isEmpty: Bool { port == nil && entrypoint.isEmpty && command.isEmpty }

    func deploy(_ path: String, as what: DeployOptions, _ daemon: DaemonAddress) throws -> DeployResult {
        guard let name = what.name else {
            throw Failure(.usage, "fn: an image says no name for its function: --name NAME")
        }
        guard what.runtime == nil, what.handler == nil else {
            throw Failure(.usage, "fn: an image has no runtime and no handler: leave out --runtime and --handler")
        }
        let source = try ImageSource(path)
        let limits = try what.limits.request()
        var query: [(String, String)] = []
        func add(_ name: String, _ value: (some CustomStringConvertible)?) {
            if let value { query.append((name, value.description)) }
        }
        add("memory", limits.memory)
        add("memoryBurst", limits.memoryBurst)
        add("cpus", limits.cpus)
        add("timeoutMs", limits.timeoutMs)
        add("tmp", limits.tmp)
        add("concurrency", limits.concurrency)
        add("minWarm", limits.minWarm)
        add("perSandbox", limits.perSandbox)
        add("network", limits.network?.rawValue)
        add("port", port)
        for word in entrypoint { add("entrypoint", word) }
        for word in command { add("command", word) }
        for (key, value) in (limits.env ?? [:]).sorted(by: { $0.key < $1.key }) { add("env", "\(key)=\(value)") }
        let words = query.map { "\($0.0)=\(PercentEncoder.encode($0.1))" }.joined(separator: "&")
        let place = "/v1/functions/\(try DaemonAddress.encoded(name))/image\(words.isEmpty ? "" : "?\(words)")"
        let answer = try daemon.reach("sending the image") { client, progress throws(ClientError) in
            var sent: Int64 = 0
            return try client.upload("PUT", place, size: source.size) { give throws(ClientError) in
                try source.read { piece throws(ClientError) in
                    sent += Int64(piece.count)
                    if let size = source.size, size > 0 { progress?.reached(Double(sent) / Double(size)) }
                    return try give(piece)
                }
            }
        }
        guard answer.status < 400 else { throw daemon.failure(answer) }
        return try DaemonAddress.decode(DeployResult.self, answer.body)
    }
}

struct Deploy: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Package a directory or an archive and register it.",
        discussion: """
            fn deploy Examples/hello-python
            fn deploy app.zip --name app --runtime python --handler app.handle
            docker save web | fn deploy --image - --name web --port 8080
            What a directory's .fnignore names stays out, as do version control and caches. Its lines are patterns as in
            a .gitignore: *, ?, **, a slash in front or within ties to the top, one at the end means directories, ! takes
            back.
            """
    )

    @Argument(
        help: "A directory, or a .zip or .tar.gz file; default is the directory that it runs in.",
        completion: .file()
    )
    var source: String?
    @OptionGroup var what: DeployOptions
    @OptionGroup var image: ImageOptions
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let result = try deploy()
        let function = result.function
        let verb = result.created ? "Deployed" : result.codeChanged ? "Updated" : "Deployed unchanged code of"
        Console.error(
            "\(verb) \(function.name) (rev \(function.revision), \(Bytes(function.codeSize).rounded)). Try: fn invoke \(function.name)"
        )
        if let warning = result.warning { Console.error("fn: warning: \(warning)") }
        Console.print(function.name)
    }

    private func deploy() throws -> DeployResult {
        guard let path = image.image else {
            guard image.isEmpty else {
                throw Failure(
                    .usage,
                    "fn: --port, --entrypoint and --command are said of an image: name it with --image"
                )
            }
            let place = source ?? "."
            let archive = try Progress.watch("packing \(place)") { _ in try CodeArchive.read(place) }
            return try what.deploy(archive, daemon)
        }
        guard source == nil else {
            throw Failure(.usage, "fn: an image and a directory cannot be one function: leave out one of them")
        }
        return try image.deploy(path, as: what, daemon)
    }
}
