// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import FnProtocol
import Functions
import HTTP
import Linux
import NIOHTTP1

/// Lambda's event-invoke configuration: what becomes of asynchronous events for a function, a version or an alias.
/// Blocking.
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

    func answer(
        _ operation: LambdaOperation,
        _ function: RegisteredFunction,
        _ qualifier: String?,
        _ request: HTTPRequest
    ) throws -> HTTPResponse {
        let name = function.latest.spec.name
        let place = qualifier ?? FunctionRecord.latest
        let present = known(function, place)
        switch operation {
        case .putEventConfig, .updateEventConfig:
            let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
            if operation == .updateEventConfig, present == nil { throw missing(name, place) }
            var handling = operation == .putEventConfig ? EventHandling() : present ?? EventHandling()
            try apply(members, to: &handling)
            handling.modifiedMs = WallClock.nowMs()
            try set(handling, function, place)
            return .json(.ok, view(handling, name, place))
        case .deleteEventConfig:
            guard present != nil else { throw missing(name, place) }
            try set(nil, function, place)
            return HTTPResponse(.noContent)
        case .listEventConfigs: return try list(function, request)
        default:
            guard let present else { throw missing(name, place) }
            return .json(.ok, view(present, name, place))
        }
    }

    private func list(_ function: RegisteredFunction, _ request: HTTPRequest) throws -> HTTPResponse {
        struct List: Encodable {
            var FunctionEventInvokeConfigs: [Answer]
            var NextMarker: String?
        }
        let name = function.latest.spec.name
        let found = ([FunctionRecord.latest] + function.events.keys.sorted())
            .compactMap { place in known(function, place).map { (place: place, events: $0) } }
        let page = try LambdaControl.page(of: found, request) { $0.place }
        let answers = page.items.map { view($0.events, name, $0.place) }
        return .json(.ok, List(FunctionEventInvokeConfigs: answers, NextMarker: page.next))
    }

    /// What was said of a qualifier, if anything was.
    private func known(_ function: RegisteredFunction, _ place: String) -> EventHandling? {
        guard place == FunctionRecord.latest else { return function.events[place] }
        let own = function.latest.spec.events
        return own.modifiedMs == nil ? nil : own
    }

    /// The function's own is kept with it. Dead letters are configured elsewhere and stay.
    private func set(_ handling: EventHandling?, _ function: RegisteredFunction, _ place: String) throws(FunctionsError)
    {
        let name = function.latest.spec.name
        guard place == FunctionRecord.latest else {
            return try context.deployments.setHandling(handling, of: name, place)
        }
        _ = try context.deployments.update(name) { spec in
            let deadLetter = spec.events.deadLetter
            spec.events = handling ?? EventHandling()
            spec.events.deadLetter = deadLetter
        }
    }

    private func missing(_ name: String, _ place: String) -> LambdaError {
        LambdaError(
            .notFound,
            "ResourceNotFoundException",
            "The function \(FunctionReference.arn(name, qualifier: place)) doesn't have an EventInvokeConfig"
        )
    }

    private func view(_ events: EventHandling, _ name: String, _ place: String) -> Answer {
        func destination(_ text: String?) -> Target { Target(Destination: text.map { Self.spelled($0) }) }
        return Answer(
            LastModified: Double(events.modifiedMs ?? 0) / 1000,
            FunctionArn: FunctionReference.arn(name, qualifier: place),
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
