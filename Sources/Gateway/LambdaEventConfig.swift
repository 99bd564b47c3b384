// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import FnProtocol
import Functions
import HTTP
import Linux
import NIOHTTP1

/// Lambda's event-invoke configuration: what becomes of asynchronous events of one function. Blocking.
struct LambdaEventConfig {
    let context: GatewayContext

    private struct Target: Codable { var Destination: String? }
    private struct Destinations: Codable {
        var OnSuccess: Target?
        var OnFailure: Target?
    }
    private struct Members: Decodable {
        var MaximumRetryAttempts: Int?
        var MaximumEventAgeInSeconds: Int?
        var DestinationConfig: Destinations?
    }
    private struct Answer: Encodable {
        /// Seconds since 1970: not the ISO text that other operations have.
        var LastModified: Double
        var FunctionArn: String
        var MaximumRetryAttempts: Int?
        var MaximumEventAgeInSeconds: Int?
        var DestinationConfig: Destinations
    }

    func answer(_ operation: LambdaOperation, _ record: FunctionRecord, _ request: HTTPRequest) throws -> HTTPResponse {
        let name = record.spec.name
        switch operation {
        case .putEventConfig, .updateEventConfig:
            let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
            var handling = operation == .putEventConfig ? blank(record) : record.spec.events
            try apply(members, to: &handling)
            handling.modifiedMs = WallClock.nowMs()
            return .json(.ok, try view(set(handling, of: name)))
        case .deleteEventConfig:
            guard record.spec.events.modifiedMs != nil else { throw missing(name) }
            _ = try set(blank(record), of: name)
            return HTTPResponse(.noContent)
        case .listEventConfigs:
            struct List: Encodable { var FunctionEventInvokeConfigs: [Answer] }
            return .json(.ok, List(FunctionEventInvokeConfigs: (try? view(record)).map { [$0] } ?? []))
        default: return .json(.ok, try view(record))
        }
    }

    /// Dead letters are configured elsewhere and stay.
    private func blank(_ record: FunctionRecord) -> EventHandling {
        var handling = EventHandling()
        handling.deadLetter = record.spec.events.deadLetter
        return handling
    }

    private func set(_ handling: EventHandling, of name: String) throws(FunctionsError) -> FunctionRecord {
        try context.deployments.update(name) { $0.events = handling }
    }

    private func missing(_ name: String) -> LambdaError {
        LambdaError(
            .notFound,
            "ResourceNotFoundException",
            "The function \(FunctionReference.arn(name, qualifier: "$LATEST")) doesn't have an EventInvokeConfig"
        )
    }

    private func view(_ record: FunctionRecord) throws(LambdaError) -> Answer {
        let (name, events) = (record.spec.name, record.spec.events)
        guard let modified = events.modifiedMs else { throw missing(name) }
        func destination(_ text: String?) -> Target { Target(Destination: text.map { Self.spelled($0) }) }
        return Answer(
            LastModified: Double(modified) / 1000,
            FunctionArn: FunctionReference.arn(name, qualifier: "$LATEST"),
            MaximumRetryAttempts: events.retries,
            MaximumEventAgeInSeconds: events.maxAgeSeconds,
            DestinationConfig: Destinations(
                OnSuccess: destination(events.onSuccess),
                OnFailure: destination(events.onFailure)
            )
        )
    }

    private func apply(_ members: Members, to handling: inout EventHandling) throws(LambdaError) {
        if let retries = members.MaximumRetryAttempts {
            guard (0...2).contains(retries) else {
                throw .invalid("MaximumRetryAttempts must be between 0 and 2, not \(retries)")
            }
            handling.retries = retries
        }
        if let age = members.MaximumEventAgeInSeconds {
            guard (60...21_600).contains(age) else {
                throw .invalid("MaximumEventAgeInSeconds must be between 60 and 21600, not \(age)")
            }
            handling.maxAgeSeconds = age
        }
        if let given = members.DestinationConfig?.OnSuccess { handling.onSuccess = try destination(given) }
        if let given = members.DestinationConfig?.OnFailure { handling.onFailure = try destination(given) }
    }

    private func destination(_ target: Target) throws(LambdaError) -> String? {
        guard let text = target.Destination, !text.isEmpty else { return nil }
        do throws(FunctionsError) {
            let destination = try Destination(text)
            if case .function(let name) = destination, context.catalog[name] == nil {
                throw .invalid("no such function: \(name)")
            }
            return destination.description
        } catch {
            throw .invalid("The destination ARN \(text) is invalid: \(error)")
        }
    }

    /// A destination as Lambda's clients see it: functions by their ARN.
    static func spelled(_ text: String) -> String {
        if case .function(let name) = try? Destination(text) { FunctionReference.arn(name) } else { text }
    }
}
