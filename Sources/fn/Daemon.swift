// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc
import Units

/// Where the daemon is: options that every verb has.
struct DaemonAddress: ParsableArguments {
    @Option(
        help:
            "The daemon's address, such as http://127.0.0.1:9000 ($FN_URL); default is the Unix socket ($FN_SOCKET, /run/fn/fn.sock). $FN_TIMEOUT, 10s, is how long it may be silent before it is asked whether it lives."
    )
    var url: String?

    func client() throws -> HTTPClient {
        let token = Console.environment("FN_TOKEN")
        if let token, token.contains(where: { $0.isWhitespace || !$0.isASCII }) {
            throw Failure(.usage, "fn: FN_TOKEN: a token has no spaces, line ends or letters outside ASCII")
        }
        return HTTPClient(try address(), token: token, patience: try patience())
    }

    private func address() throws -> HTTPClient.Address {
        guard let url = url ?? Console.environment("FN_URL") else {
            return .unix(Console.environment("FN_SOCKET") ?? "/run/fn/fn.sock")
        }
        do throws(AddressError) {
            return try HTTPClient.Address(url: url)
        } catch {
            throw Failure(.usage, "fn: \(self.url == nil ? "FN_URL" : "--url"): \(error)")
        }
    }

    private func patience() throws -> Duration {
        guard let text = Console.environment("FN_TIMEOUT") else { return .seconds(10) }
        guard let time = Duration(text: text), time > .zero else {
            throw Failure(.usage, "fn: FN_TIMEOUT: expected a duration such as 10s, got '\(text)'")
        }
        return time
    }

    /// Calls the daemon; anything but success ends the program with the daemon's own words.
    func call(
        _ method: String,
        _ path: String,
        body: [UInt8] = [],
        headers: [(String, String)] = [],
        onBody: (([UInt8]) -> Void)? = nil
    ) throws -> HTTPAnswer {
        let answer = try reach(isQuiet: onBody != nil) { client, _ throws(ClientError) in
            try client.call(method, path, headers: headers, body: body, onBody: onBody)
        }
        guard answer.status < 400 else { throw failure(answer) }
        return answer
    }

    /// Calls the daemon about one function; if that is not there, the error names the one that may have been meant.
    func ofFunction(
        _ name: String,
        _ method: String,
        _ rest: String = "",
        body: [UInt8] = [],
        onBody: (([UInt8]) -> Void)? = nil
    ) throws -> HTTPAnswer {
        let path = "/v1/functions/\(try Self.encoded(name))\(rest)"
        let answer = try reach(isQuiet: onBody != nil) { client, _ throws(ClientError) in
            try client.call(method, path, body: body, onBody: onBody)
        }
        guard answer.status < 400 else { throw failure(answer, function: name) }
        return answer
    }

    /// A function's name as a part of a path.
    static func encoded(_ name: String) throws -> String {
        guard !name.isEmpty else { throw Failure(.usage, "fn: the function's name is empty") }
        return PercentEncoder.encode(name)
    }

    /// Calls the daemon, whatever it answers.
    ///
    /// - Parameters:
    ///   - what: is told to who waits for longer than a second.
    ///   - isQuiet: says nothing of it, where what comes is shown as it comes.
    func reach(
        _ what: String = "waiting for fnd",
        isQuiet: Bool = false,
        _ body: (HTTPClient, Progress?) throws(ClientError) -> HTTPAnswer
    ) throws -> HTTPAnswer {
        let client = try client()
        do throws(ClientError) {
            guard !isQuiet else { return try body(client, nil) }
            return try Progress.watch(what) { progress throws(ClientError) in try body(client, progress) }
        } catch .broken(let why) {
            throw Failure(.failed, "fn: \(ClientError.broken(why))")
        } catch .brokenOff(let headers) {
            throw BrokenOff(headers: headers)
        } catch .source(let why) {
            throw Failure(.failed, "fn: \(why)")
        } catch {
            throw Failure(.unreachable, "fn: \(error)")
        }
    }

    func get<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        try Self.decode(type, try call("GET", path).body)
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ body: [UInt8]) throws -> Value {
        guard let value = try? JSONText.decode(type, from: body) else {
            throw Failure(.failed, "fn: what answers is no fnd of this version (\(Version.current)); see fn version")
        }
        return value
    }

    // MARK: Errors

    /// What an answer that is no success means, in its own words if they are the daemon's.
    func failure(_ answer: HTTPAnswer, function name: String? = nil) -> Failure {
        guard let error = answer.error else { return strangers(answer) }
        if let name, error.code == "FunctionNotFound" { return unknown(name) }
        return Failure(Exit(status: answer.status), "fn: \(error.message)")
    }

    /// Somebody else answered: a proxy whose daemon is gone, or another server at this address.
    private func strangers(_ answer: HTTPAnswer) -> Failure {
        let line = String(decoding: answer.body.prefix { $0 != UInt8(ascii: "\n") }.prefix(100), as: UTF8.self)
        let words = line.isEmpty ? "" : ": \(line)"
        let place = (try? client().address.description) ?? "it"
        return switch answer.status {
        case 401, 403: Failure(.notAllowed, "fn: \(place) does not let us in (\(answer.status))\(words)")
        case 502, 503, 504:
            Failure(.unreachable, "fn: \(place) answers \(answer.status) in fnd's place: is fnd running?\(words)")
        default: Failure(.failed, "fn: \(place) answers \(answer.status), and not as fnd does: is it fnd?\(words)")
        }
    }

    /// A function's name that may have been meant.
    func nearestFunction(to name: String) -> String? {
        let names = (try? get(FunctionList.self, "/v1/functions"))?.functions.map(\.name) ?? []
        return Spelling.nearest(name, among: names.filter { $0 != name })
    }

    /// The error of a name that is not there, with the one that may have been meant.
    private func unknown(_ name: String) -> Failure {
        let hint = nearestFunction(to: name).map { "; did you mean '\($0)'?" } ?? "; fn ls lists them"
        return Failure(.notFound, "fn: no such function: \(name)\(hint)")
    }
}

/// An answer that ended in its middle.
struct BrokenOff: Error {
    /// Names in lower case.
    var headers: [String: String]

    var failure: Failure { Failure(.unreachable, "fn: \(ClientError.brokenOff(headers))") }
}

/// How lists are printed.
struct ListOutput: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
        case yaml
        case name
    }

    @Option(name: .shortAndLong, help: "table, json, yaml or name ($FN_OUTPUT; table).") var output: Format?
    @Flag(name: .shortAndLong, help: "Names only.") var quiet = false

    /// Flags win over the environment.
    private var format: Format { quiet ? .name : output ?? Self.usual ?? .table }
    private static var usual: Format? { Console.environment("FN_OUTPUT").flatMap { Format(rawValue: $0) } }

    /// Whether it is for people's eyes.
    var isTable: Bool { format == .table }

    func validate() throws {
        guard let word = Console.environment("FN_OUTPUT"), Self.usual == nil else { return }
        throw ValidationError("FN_OUTPUT: expected table, json, yaml or name, got '\(word)'")
    }

    func show(_ value: some Encodable, names: [String], table: () -> String) {
        switch format {
        case .table: Console.print(table())
        case .json: Console.print(JSONText.encode(value, pretty: true))
        case .yaml: Console.print(YAMLText.encode(JSONText.encode(value)))
        case .name: if !names.isEmpty { Console.print(names.joined(separator: "\n")) }
        }
    }
}
