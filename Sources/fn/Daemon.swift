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
            "The daemon's address, such as http://127.0.0.1:9000 ($FN_URL); default is the Unix socket ($FN_SOCKET, /run/fn/fn.sock)."
    )
    var url: String?

    func client() throws -> HTTPClient {
        let token = Console.environment("FN_TOKEN")
        if let token, token.contains(where: { $0.isWhitespace || !$0.isASCII }) {
            throw Failure(.usage, "fn: FN_TOKEN: a token has no spaces, line ends or letters outside ASCII")
        }
        guard let url = url ?? Console.environment("FN_URL") else {
            return HTTPClient(.unix(Console.environment("FN_SOCKET") ?? "/run/fn/fn.sock"), token: token)
        }
        guard !url.hasPrefix("https://") else {
            throw Failure(
                .usage,
                "--url: fn speaks plain HTTP only: use the Unix socket, a tunnel (ssh -L), or curl or an AWS SDK for \(url)"
            )
        }
        guard url.hasPrefix("http://") else { throw Failure(.usage, "--url: expected http://HOST:PORT, got '\(url)'") }
        let parts = url.dropFirst("http://".count).split(separator: "/").first?.split(separator: ":") ?? []
        guard let host = parts.first, parts.count <= 2, let port = parts.count == 2 ? UInt16(parts[1]) : 80 else {
            throw Failure(.usage, "--url: expected http://HOST:PORT, got '\(url)'")
        }
        return HTTPClient(.tcp(host: String(host), port: port), token: token)
    }

    /// Calls the daemon; anything but success ends the program with the daemon's own words.
    func call(
        _ method: String,
        _ path: String,
        body: [UInt8] = [],
        headers: [(String, String)] = [],
        onBody: (([UInt8]) -> Void)? = nil
    ) throws -> HTTPAnswer {
        let answer = try reach { client throws(ClientError) in
            try client.call(method, path, headers: headers, body: body, onBody: onBody)
        }
        guard answer.status < 400 else { throw Failure(Exit(status: answer.status), "fn: \(answer.errorMessage)") }
        return answer
    }

    /// Calls the daemon, whatever it answers.
    func reach(_ body: (HTTPClient) throws(ClientError) -> HTTPAnswer) throws -> HTTPAnswer {
        let client = try client()
        do throws(ClientError) {
            return try body(client)
        } catch .unreachable(let why) {
            throw Failure(.unreachable, "fn: \(why)")
        } catch {
            throw Failure(.failed, "fn: \(error)")
        }
    }

    func get<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        try JSONText.decode(type, from: try call("GET", path).body)
    }

    /// The error of a name that is not there, with the one that may have been meant.
    func unknown(_ name: String) -> Failure {
        let names = (try? get(FunctionList.self, "/v1/functions"))?.functions.map(\.name) ?? []
        let hint = Spelling.nearest(name, among: names).map { "; did you mean '\($0)'?" } ?? ""
        return Failure(.notFound, "fn: no such function: \(name)\(hint)")
    }
}

/// How lists are printed.
struct ListOutput: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
        case yaml
        case name
    }

    @Option(name: .shortAndLong, help: "table, json, yaml or name.") var output = Format.table
    @Flag(name: .shortAndLong, help: "Names only.") var quiet = false

    func show(_ value: some Encodable, names: [String], table: () -> String) {
        switch quiet ? .name : output {
        case .table: Console.print(table())
        case .json: Console.print(JSONText.encode(value, pretty: true))
        case .yaml: Console.print(YAMLText.encode(JSONText.encode(value)))
        case .name: if !names.isEmpty { Console.print(names.joined(separator: "\n")) }
        }
    }
}
