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

/// The body of `PUT /telemetry` and `PUT /logs`.
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

    /// What is wrong with a body; `nil` when it is a subscription that Lambda would take.
    static func problem(_ body: ByteBuffer, isOlder: Bool) -> String? {
        guard body.readableBytes <= longestBody else { return "the body is over \(longestBody) bytes" }
        guard let read = try? JSONDecoder().decode(Self.self, from: Data(body.readableBytesView)) else {
            return #"the body is not of the form {"schemaVersion":…,"types":[…],"destination":{"protocol":…,"URI":…}}"#
        }
        return read.problem(isOlder: isOlder)
    }

    private func problem(isOlder: Bool) -> String? {
        let versions = isOlder ? ["2020-08-15", "2021-03-18"] : ["2022-07-01", "2022-12-13", "2025-01-29"]
        // Only the older form may leave it out.
        guard schemaVersion.map(versions.contains) ?? isOlder else {
            return "schemaVersion is to be one of \(versions.joined(separator: ", "))"
        }
        guard !types.isEmpty, types.allSatisfy(["platform", "function", "extension"].contains) else {
            return "types are to be some of platform, function, extension"
        }
        switch destination.protocol {
        case "HTTP":
            guard let uri = destination.uri, uri.hasPrefix("http://sandbox") else {
                return "destination.URI is to begin with http://sandbox"
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
