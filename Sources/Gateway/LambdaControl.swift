// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import FoundationEssentials
import Functions
import HTTP
import NIOCore
import NIOHTTP1
import Policy
import Units

/// Lambda's control plane, as far as it is offered. Blocking.
struct LambdaControl {
    let context: GatewayContext

    func answer(_ operation: LambdaOperation, _ name: String, _ request: HTTPRequest) -> HTTPResponse {
        do {
            switch operation {
            case .createFunction: return try create(request)
            case .listFunctions: return try list(request)
            case .getFunction: return try get(name, request)
            case .getConfiguration: return try getConfiguration(name, request)
            case .updateConfiguration: return try updateConfiguration(name, request)
            case .updateCode: return try updateCode(name, request)
            case .deleteFunction: return try delete(name, request)
            case .putConcurrency: return try putConcurrency(name, request)
            case .getConcurrency: return answer(.ok, Concurrency(try unqualified(name, request).latest))
            case .deleteConcurrency: return try edit(name, request) { $0.concurrency = nil }
            case .accountSettings: return try accountSettings()
            case .publishVersion, .listVersions:
                return try LambdaVersions(control: self).answer(operation, name, request)
            case .createAlias, .getAlias, .updateAlias, .deleteAlias, .listAliases:
                return try LambdaAliases(control: self).answer(operation, name, request)
            case .putProvisioned, .getProvisioned, .deleteProvisioned:
                return try LambdaProvisioned(control: self).answer(operation, name, request)
            case .publishLayer, .getLayer, .deleteLayer, .listLayers, .listLayerVersions:
                return try LambdaLayers(control: self).answer(operation, name, request)
            case .listTags: return answer(.ok, Tags(Tags: try unqualified(name, request).latest.spec.tags))
            case .tag: return try tag(name, request)
            case .untag: return try untag(name, request)
            case .getEventConfig, .putEventConfig, .updateEventConfig, .deleteEventConfig, .listEventConfigs:
                let (function, qualifier) = try qualified(name, request)
                var response = try LambdaEventConfig(context: context).answer(operation, function, qualifier, request)
                response.headers.replaceOrAdd(name: "x-amzn-RequestId", value: RequestID.make())
                return response
            case .createUrl, .getUrl, .updateUrl, .deleteUrl, .listUrls:
                let (function, qualifier) = try qualified(name, request)
                return try LambdaUrls(control: self).answer(operation, function, qualifier, request)
            case .notOffered: throw LambdaError.invalid("\(name) is not offered here")
            }
        } catch let error as LambdaError {
            return error.response
        } catch let error as FunctionsError {
            return LambdaError(error).response
        } catch let error as DecodingError {
            return Self.problem(error).response
        } catch {
            return LambdaError(
                .badRequest,
                "InvalidRequestContentException",
                "Could not parse request body into json: \(error)"
            )
            .response
        }
    }

    /// What is wrong with a body, in Lambda's words rather than those of our decoder.
    private static func problem(_ error: DecodingError) -> LambdaError {
        func path(_ context: DecodingError.Context) -> String {
            context.codingPath.map(\.stringValue).joined(separator: ".")
        }
        switch error {
        case .keyNotFound(let key, let context):
            let name = (context.codingPath + [key])
                .map { $0.stringValue.prefix(1).lowercased() + $0.stringValue.dropFirst() }
            return LambdaError(
                .badRequest,
                "ValidationException",
                "1 validation error detected: Value null at '\(name.joined(separator: "."))' failed to satisfy constraint: Member must not be null"
            )
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return LambdaError(.badRequest, "SerializationException", "\(path(context)) has the wrong type")
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            return LambdaError(.badRequest, "SerializationException", "\(path(context)) has the wrong form")
        default:
            return LambdaError(
                .badRequest,
                "InvalidRequestContentException",
                "Could not parse request body into json: it is no JSON"
            )
        }
    }

    /// A success with a body.
    func answer(_ status: HTTPResponseStatus, _ value: some Encodable) -> HTTPResponse {
        var response = HTTPResponse.json(status, value)
        response.headers.add(name: "x-amzn-RequestId", value: RequestID.make())
        return response
    }

    /// A success without one.
    var done: HTTPResponse { HTTPResponse(.noContent, headers: ["x-amzn-RequestId": RequestID.make()]) }

    /// The function of a request that is about it as a whole.
    func unqualified(_ name: String, _ request: HTTPRequest) throws -> RegisteredFunction {
        let name = try FunctionReference(name).unqualified(request.query("Qualifier"))
        guard let registered = try context.deployments.registered(name) else {
            throw LambdaError.notFound(FunctionReference.arn(name))
        }
        return registered
    }

    /// The function of a request, with the version or alias that it is about, which is there.
    private func qualified(
        _ name: String,
        _ request: HTTPRequest
    ) throws -> (function: RegisteredFunction, qualifier: String?) {
        let reference = try FunctionReference(name).checked(request.query("Qualifier"))
        guard let function = try context.deployments.registered(reference.name),
            function.record(reference.qualifier) != nil
        else { throw LambdaError.notFound(reference.arn) }
        return (function, reference.qualifier)
    }

    /// What a request with a qualifier, or without one, means.
    private func find(
        _ name: String,
        _ request: HTTPRequest
    ) throws -> (record: FunctionRecord, latest: FunctionRecord, reference: FunctionReference) {
        let reference = try FunctionReference(name).checked(request.query("Qualifier"))
        guard let registered = try context.deployments.registered(reference.name),
            let record = registered.record(reference.qualifier)
        else { throw LambdaError.notFound(reference.arn) }
        return (record, registered.latest, reference)
    }

    /// `MaxItems` and where to go on.
    static func page(_ request: HTTPRequest) throws(LambdaError) -> (marker: String, limit: Int) {
        let text = request.query("MaxItems")
        guard let limit = text.map({ Int($0) }) ?? 50, (1...10_000).contains(limit) else {
            throw .invalid("MaxItems must be between 1 and 10000")
        }
        return (request.query("Marker") ?? "", limit)
    }

    /// The page of a list that a request asks for.
    ///
    /// - Parameter key: what the list is sorted by, and a marker is one of.
    /// - Returns: the page, and the marker of the next one, if there is one.
    static func page<Item>(
        of items: [Item],
        _ request: HTTPRequest,
        by key: (Item) -> String
    ) throws(LambdaError) -> (items: ArraySlice<Item>, next: String?) {
        let (marker, limit) = try page(request)
        let found = items.filter { key($0) > marker }
        let page = found.prefix(limit)
        return (page, found.count > limit ? page.last.map(key) : nil)
    }

    // MARK: Operations

    private func create(_ request: HTTPRequest) throws -> HTTPResponse {
        let members = try JSONText.decode(FunctionMembers.self, from: request.body.readableBytesView)
        try JSONText.decode(RefusedMembers.self, from: request.body.readableBytesView).check()
        try members.checkRanges(context.catalog.settings.limits)
        guard let text = members.FunctionName else { throw LambdaError.invalid("FunctionName is missing") }
        let name = try FunctionReference(text).unqualified(nil)
        let archive = try code(members.Code)
        guard let lambdaRuntime = members.Runtime else {
            throw LambdaError.invalid("Runtime is mandatory for functions created with deployment packages.")
        }
        let runtime = try context.deployments.runtimeName(lambdaRuntime)
        let layers = try LambdaLayers(control: self).find(members.Layers ?? [])
        var spec = FunctionSpec(name: name, runtime: runtime)
        try members.apply(to: &spec, runtime: runtime, layers: layers)
        var record = try context.deployments.create(spec, archive: archive)
        if members.Publish == true { record = try context.deployments.publish(name) }
        var response = answer(.created, FunctionConfiguration(record, context))
        if let warning = context.deployments.overcommitment {
            response.headers.add(name: "X-Fn-Warning", value: warning)
        }
        return response
    }

    private func code(_ members: CodeMembers?) throws(LambdaError) -> [UInt8] {
        guard let text = members?.ZipFile else { throw .invalid("Code must be given as ZipFile") }
        guard let archive = Base64.decode(text) else { throw .invalid("ZipFile is not base64") }
        return archive
    }

    private func updateConfiguration(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let name = try unqualified(name, request).latest.spec.name
        let members = try JSONText.decode(FunctionMembers.self, from: request.body.readableBytesView)
        try JSONText.decode(RefusedMembers.self, from: request.body.readableBytesView).check()
        try members.checkRanges(context.catalog.settings.limits)
        let runtime = try members.Runtime.map { try context.deployments.runtimeName($0) }
        _ = try members.DeadLetterConfig?.function()  // in Lambda's words, before anything is changed
        let record = try context.deployments.alone(with: name) {
            let layers = try members.Layers.map { try LambdaLayers(control: self).find($0) }
            return try context.deployments.update(name, expectedRevisionID: members.RevisionId) { spec in
                try members.apply(to: &spec, runtime: runtime, layers: layers)
            }
        }
        return answer(.ok, FunctionConfiguration(record, context))
    }

    private func updateCode(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable {
            var RevisionId: String?
            var DryRun: Bool?
            var Publish: Bool?
        }
        let name = try unqualified(name, request).latest.spec.name
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        try JSONText.decode(RefusedMembers.self, from: request.body.readableBytesView).check()
        let archive = try code(try JSONText.decode(CodeMembers.self, from: request.body.readableBytesView))
        let (deployments, revision) = (context.deployments, members.RevisionId)
        if members.DryRun == true {
            let record = try deployments.tryCode(name, expectedRevisionID: revision, archive: archive)
            return answer(.ok, FunctionConfiguration(record, context))
        }
        let record = try deployments.alone(with: name) {
            let latest = try deployments.updateCode(name, expectedRevisionID: revision, archive: archive)
            return members.Publish == true ? try deployments.publish(name) : latest
        }
        let qualifier = members.Publish == true ? record.version : nil
        return answer(.ok, FunctionConfiguration(record, context, qualifier: qualifier))
    }

    private func get(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Code: Encodable {
            var RepositoryType: String
            var Location: String?
            var ImageUri: String?
            var ResolvedImageUri: String?
        }
        struct Answer: Encodable {
            var Configuration: FunctionConfiguration
            var Code: Code
            var Tags: [String: String]?
            var Concurrency: Concurrency?
        }
        let (record, latest, reference) = try find(name, request)
        let version = record.version == FunctionRecord.latest ? nil : record.version
        let place = "/v1/functions/\(PlanName.make(record.spec.name, version: version))/code"
        // What clients expect; the location is ours.
        var code = Code(RepositoryType: "S3", Location: Self.location(request, place))
        if let image = record.spec.image {
            let uri = "\(record.spec.name)@sha256:\(image.id)"
            code = Code(RepositoryType: "ECR", ImageUri: uri, ResolvedImageUri: uri)
        }
        return answer(
            .ok,
            Answer(
                Configuration: FunctionConfiguration(record, context, qualifier: reference.qualifier),
                Code: code,
                Tags: latest.spec.tags.isEmpty ? nil : latest.spec.tags,
                Concurrency: latest.spec.concurrency == nil ? nil : Concurrency(latest)
            )
        )
    }

    /// Where something can be fetched, from the caller's point of view.
    static func location(_ request: HTTPRequest, _ path: String) -> String {
        "\(request.isSecure ? "https" : "http")://\(request.headers.first(name: "Host") ?? "127.0.0.1:9000")\(path)"
    }

    private func getConfiguration(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let (record, _, reference) = try find(name, request)
        return answer(.ok, FunctionConfiguration(record, context, qualifier: reference.qualifier))
    }

    private func list(_ request: HTTPRequest) throws -> HTTPResponse {
        struct Answer: Encodable {
            var Functions: [FunctionConfiguration]
            var NextMarker: String?
        }
        let (marker, limit) = try Self.page(request)
        if let word = request.query("FunctionVersion") {
            guard word == "ALL" else {
                throw LambdaError.validation(word, "functionVersion", "satisfy enum value set: [ALL]")
            }
            let (page, next) = try LambdaVersions(control: self).all(after: marker, limit)
            return answer(.ok, Answer(Functions: page, NextMarker: next))
        }
        let records = try context.deployments.records(after: marker, limit: limit + 1)
        let page = records.prefix(limit).map { FunctionConfiguration($0, context) }
        return answer(.ok, Answer(Functions: page, NextMarker: records.count > limit ? page.last?.FunctionName : nil))
    }

    private func delete(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let reference = try FunctionReference(name).checked(request.query("Qualifier"))
        guard let qualifier = reference.qualifier else {
            try context.deployments.remove(reference.name)
            return done
        }
        return try LambdaVersions(control: self).delete(reference.name, qualifier)
    }

    // MARK: Concurrency and the account

    private struct Concurrency: Encodable {
        var ReservedConcurrentExecutions: Int?
        init(_ record: FunctionRecord) { ReservedConcurrentExecutions = record.spec.concurrency }
    }

    /// Reserved concurrency is what `concurrency` is here: the most sandboxes of the function; none switches it off.
    private func putConcurrency(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable { var ReservedConcurrentExecutions: Int }
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        let (count, limit) = (members.ReservedConcurrentExecutions, context.catalog.settings.limits.concurrency)
        guard (0...limit).contains(count) else {
            throw LambdaError.invalid("ReservedConcurrentExecutions must be between 0 and \(limit), not \(count)")
        }
        let function = try unqualified(name, request)
        let provisioned = function.provisioned.reduce(0) { $0 + $1.requested }
        guard count >= provisioned else {
            throw LambdaError.invalid(
                "ReservedConcurrentExecutions \(count) should not be lower than function's total provisioned concurrency [\(provisioned)]."
            )
        }
        let record = try context.deployments.update(function.latest.spec.name) { $0.concurrency = count }
        return answer(.ok, Concurrency(record))
    }

    private func edit(
        _ name: String,
        _ request: HTTPRequest,
        _ change: @escaping @Sendable (inout FunctionSpec) throws -> Void
    ) throws -> HTTPResponse {
        _ = try context.deployments.update(try unqualified(name, request).latest.spec.name, change)
        return done
    }

    private func accountSettings() throws -> HTTPResponse {
        struct Limit: Encodable {
            var TotalCodeSize: Int64
            var CodeSizeUnzipped: Int64
            var CodeSizeZipped: Int64
            var ConcurrentExecutions: Int
            var UnreservedConcurrentExecutions: Int
        }
        struct Usage: Encodable {
            var TotalCodeSize: Int64
            var FunctionCount: Int
        }
        struct Answer: Encodable {
            var AccountLimit: Limit
            var AccountUsage: Usage
        }
        let (settings, records) = (context.catalog.settings, try context.deployments.records(after: "", limit: .max))
        let most = settings.pools.maxSandboxes
        let reserved = records.compactMap(\.spec.concurrency).reduce(0, +)
        let limit = Limit(
            TotalCodeSize: 80_530_636_800,
            CodeSizeUnzipped: settings.limits.unpackedCode.count,
            CodeSizeZipped: settings.limits.code.count,
            ConcurrentExecutions: most,
            UnreservedConcurrentExecutions: max(0, most - reserved)
        )
        var code: [String: Int64] = [:]
        for record in records {
            let versions = try context.deployments.versions(of: record.spec.name, after: 0, limit: .max)
            for each in [record] + versions { code["\(record.spec.name) \(each.codeSHA256)"] = each.codeSize }
        }
        let usage = Usage(TotalCodeSize: code.values.reduce(0, +), FunctionCount: records.count)
        return answer(.ok, Answer(AccountLimit: limit, AccountUsage: usage))
    }

    // MARK: Tags

    private struct Tags: Codable { var Tags: [String: String] }

    private func tag(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let added = try JSONText.decode(Tags.self, from: request.body.readableBytesView).Tags
        return try edit(name, request) { spec in
            spec.tags.merge(added) { _, new in new }
            guard spec.tags.count <= 50 else { throw FunctionsError.invalid("a function has at most 50 tags") }
        }
    }

    private func untag(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let keys = Set(request.queries("tagKeys"))
        return try edit(name, request) { spec in spec.tags = spec.tags.filter { !keys.contains($0.key) } }
    }
}
