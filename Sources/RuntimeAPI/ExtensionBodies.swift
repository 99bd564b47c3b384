// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore

/// Bodies of extensions' calls are small; more is not even looked at.
private let longestBody = 64 << 10

/// The body of `POST /extension/register`.
struct ExtensionRegistration: Decodable {
    var events: [String]?
    /// Gone from Lambda's API: whoever still sends them is told.
    var configurationKeys: [String]?

    static func read(_ body: ByteBuffer) throws(ExtensionRefusal) -> [String] {
        guard body.readableBytes <= longestBody else { throw .invalidFormat("the body is over \(longestBody) bytes") }
        guard let read = try? JSONDecoder().decode(Self.self, from: Data(body.readableBytesView)) else {
            throw .invalidFormat(#"the body is not of the form {"events":["INVOKE","SHUTDOWN"]}"#)
        }
        guard read.configurationKeys?.isEmpty ?? true else {
            throw .invalidFormat("configurationKeys are deprecated; use environment variables instead")
        }
        return read.events ?? []
    }
}

/// The body of `PUT /telemetry`.
struct TelemetrySubscription: Decodable {
    struct Destination: Decodable {
        var `protocol`: String
        var uri: String?
        var port: Int?

        private enum CodingKeys: String, CodingKey {
            case `protocol`, port
            case uri = "URI"
        }
    }
    struct Buffering: Decodable {
        var maxItems: Int?
        var maxBytes: Int?
        var timeoutMs: Int?
    }

    var schemaVersion: String?
    var types: [String]
    var buffering: Buffering?
    var destination: Destination

    /// A subscription that is not of Lambda's form, with what is wrong.
    struct Problem: Error, Equatable {
        let description: String
    }

    static func read(_ body: ByteBuffer) throws(Problem) -> TelemetrySubscription {
        guard body.readableBytes <= longestBody else {
            throw Problem(description: "the body is over \(longestBody) bytes")
        }
        guard let read = try? JSONDecoder().decode(Self.self, from: Data(body.readableBytesView)) else {
            throw Problem(
                description:
                    #"the body is not of the form {"schemaVersion":…,"types":[…],"destination":{"protocol":…,"URI":…}}"#
            )
        }
        if let problem = read.problem { throw Problem(description: problem) }
        return read
    }

    var limits: TelemetryBuffer.Limits {
        var limits = TelemetryBuffer.Limits()
        limits.maxItems = buffering?.maxItems ?? limits.maxItems
        limits.maxBytes = buffering?.maxBytes ?? limits.maxBytes
        limits.timeoutMs = buffering?.timeoutMs ?? limits.timeoutMs
        return limits
    }

    /// Where it listens. Of a subscription that was read.
    var place: TelemetrySubscriber.Destination {
        if destination.protocol == "TCP" { return .tcp(port: UInt16(destination.port ?? 0)) }
        let (port, path, authority) = Self.parts(destination.uri ?? "") ?? (80, "/", "")
        return .http(port: port, path: path, authority: authority)
    }

    /// Lambda's names of the sandbox, and loopback's own.
    private static let hosts = ["sandbox.localdomain", "sandbox", "127.0.0.1", "localhost"]

    private static func parts(_ uri: String) -> (port: UInt16, path: String, authority: String)? {
        guard uri.hasPrefix("http://"), uri.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        let rest = uri.dropFirst("http://".count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let pieces = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard hosts.contains(pieces[0].lowercased()) else { return nil }
        guard pieces.count == 1 || UInt16(pieces[1]).map({ $0 > 0 }) == true else { return nil }
        let path = rest.dropFirst(authority.count)
        let port = pieces.count > 1 ? UInt16(pieces[1]) ?? 80 : 80
        return (port, path.hasPrefix("/") ? String(path) : "/\(path)", String(authority))
    }

    private var problem: String? {
        let versions = ["2022-07-01", "2022-12-13", "2025-01-29"]
        guard let schemaVersion, versions.contains(schemaVersion) else {
            return "schemaVersion is to be one of \(versions.joined(separator: ", "))"
        }
        guard !types.isEmpty, types.allSatisfy({ TelemetryType(rawValue: $0) != nil }) else {
            return "types are to be some of platform, function, extension"
        }
        switch destination.protocol {
        case "HTTP":
            guard let uri = destination.uri, Self.parts(uri) != nil else {
                return "destination.URI is to be of the form http://sandbox.localdomain:PORT/PATH"
            }
        case "TCP":
            guard let port = destination.port, (1...65535).contains(port) else {
                return "destination.port is to be a port"
            }
        default: return "destination.protocol is to be HTTP or TCP"
        }
        return buffering.flatMap(problem)
    }

    private func problem(_ buffering: Buffering) -> String? {
        let bounds = [
            ("maxItems", buffering.maxItems, 1000...10_000), ("maxBytes", buffering.maxBytes, 262_144...1_048_576),
            ("timeoutMs", buffering.timeoutMs, 25...30_000),
        ]
        for case (let name, let value?, let range) in bounds where !range.contains(value) {
            return "buffering.\(name) is to be from \(range.lowerBound) to \(range.upperBound)"
        }
        return nil
    }
}
