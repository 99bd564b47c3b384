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
            case .getConfiguration: return answer(.ok, FunctionConfiguration(try record(name, request), context))
            case .updateConfiguration: return try updateConfiguration(name, request)
            case .updateCode: return try updateCode(name, request)
            case .deleteFunction: return try delete(name, request)
            case .putConcurrency: return try putConcurrency(name, request)
            case .getConcurrency: return answer(.ok, Concurrency(try record(name, request)))
            case .deleteConcurrency:
                _ = try context.deployments.update(try reference(name, request).name) { $0.concurrency = nil }
                return HTTPResponse(.noContent)
            case .accountSettings: return try accountSettings()
            case .listVersions: return try listVersions(name, request)
            case .listTags: return answer(.ok, Tags(Tags: try record(name, request).spec.tags))
            case .tag: return try tag(name, request)
            case .untag: return try untag(name, request)
            case .getEventConfig, .putEventConfig, .updateEventConfig, .deleteEventConfig, .listEventConfigs:
                let record = try record(name, request)
                return try LambdaEventConfig(context: context).answer(operation, record, request)
            }
        } catch let error as LambdaError {
            return error.response
        } catch let error as FunctionsError {
            return LambdaError(error).response
        } catch {
            return LambdaError(
                .badRequest,
                "InvalidRequestContentException",
                "Could not parse request body into json: \(error)"
            )
            .response
        }
    }

    private func answer(_ status: HTTPResponseStatus, _ value: some Encodable) -> HTTPResponse {
        var response = HTTPResponse.json(status, value)
        response.headers.add(name: "x-amzn-RequestId", value: RequestID.make())
        return response
    }

    private func reference(_ name: String, _ request: HTTPRequest) throws(LambdaError) -> FunctionReference {
        try FunctionReference(name).checked(request.query("Qualifier"))
    }

    private func record(_ name: String, _ request: HTTPRequest) throws -> FunctionRecord {
        let name = try reference(name, request).name
        guard let record = try context.deployments.record(name) else {
            throw LambdaError.notFound(FunctionReference.arn(name))
        }
        return record
    }

    // MARK: Operations

    private struct CodeMembers: Decodable {
        var ZipFile: String?
        var ImageUri: String?
        var S3Bucket: String?
    }

    private struct ConfigurationMembers: Decodable {
        struct Variables: Decodable { var Variables: [String: String]? }
        struct Storage: Decodable { var Size: Int }
        var FunctionName: String?
        var Runtime: String?
        var Role: String?
        var Handler: String?
        var Description: String?
        var Timeout: Int?
        var MemorySize: Int?
        var Environment: Variables?
        var EphemeralStorage: Storage?
        var RevisionId: String?
        var Code: CodeMembers?
        var Tags: [String: String]?
        var DeadLetterConfig: DeadLetterTarget?

        func apply(to spec: inout FunctionSpec, runtime: String?) throws(LambdaError) {
            if let DeadLetterConfig { spec.events.deadLetter = try DeadLetterConfig.function() }
            if let runtime { (spec.runtime, spec.lambdaRuntime) = (runtime, Runtime) }
            spec.role = Role ?? spec.role
            spec.handler = Handler ?? spec.handler
            spec.description = Description ?? spec.description
            spec.timeoutMs = Timeout.map { $0 * 1000 } ?? spec.timeoutMs
            spec.memory = MemorySize.map { .mib(Int64($0)) } ?? spec.memory
            spec.env = Environment?.Variables ?? spec.env
            spec.tags = Tags ?? spec.tags
            spec.tmp = EphemeralStorage.map { .mib(Int64($0.Size)) } ?? spec.tmp
        }
    }

    private func create(_ request: HTTPRequest) throws -> HTTPResponse {
        let members = try JSONText.decode(ConfigurationMembers.self, from: request.body.readableBytesView)
        guard let name = members.FunctionName else { throw LambdaError.invalid("FunctionName is missing") }
        let reference = try FunctionReference(name)
        let archive = try code(members.Code)
        guard let lambdaRuntime = members.Runtime else {
            throw LambdaError.invalid("Runtime is mandatory for functions created with deployment packages.")
        }
        let runtime = try context.deployments.runtimeName(lambdaRuntime)
        var spec = FunctionSpec(name: reference.name, runtime: runtime)
        try members.apply(to: &spec, runtime: runtime)
        return answer(.created, FunctionConfiguration(try context.deployments.create(spec, archive: archive), context))
    }

    private func code(_ members: CodeMembers?) throws(LambdaError) -> [UInt8] {
        guard let members else { throw .invalid("Code is missing") }
        guard let text = members.ZipFile else {
            throw .invalid("Code must be given as ZipFile: images and S3 objects are not offered")
        }
        guard let archive = Base64.decode(text) else { throw .invalid("Code.ZipFile is not base64") }
        return archive
    }

    private func updateConfiguration(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let name = try reference(name, request).name
        let members = try JSONText.decode(ConfigurationMembers.self, from: request.body.readableBytesView)
        let runtime = try members.Runtime.map { try context.deployments.runtimeName($0) }
        _ = try members.DeadLetterConfig?.function()  // in Lambda's words, before anything is changed
        let record = try context.deployments.update(name, expectedRevisionID: members.RevisionId) { spec in
            try members.apply(to: &spec, runtime: runtime)
        }
        return answer(.ok, FunctionConfiguration(record, context))
    }

    private func updateCode(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable {
            var ZipFile: String?
            var ImageUri: String?
            var S3Bucket: String?
            var RevisionId: String?
            var DryRun: Bool?
        }
        let name = try reference(name, request).name
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        let archive = try code(
            CodeMembers(ZipFile: members.ZipFile, ImageUri: members.ImageUri, S3Bucket: members.S3Bucket)
        )
        guard members.DryRun != true else { throw LambdaError.invalid("DryRun is not offered") }
        let record = try context.deployments.updateCode(name, expectedRevisionID: members.RevisionId, archive: archive)
        return answer(.ok, FunctionConfiguration(record, context))
    }

    private func get(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Code: Encodable {
            var RepositoryType = "S3"  // what clients expect; the location is ours
            var Location: String
        }
        struct Answer: Encodable {
            var Configuration: FunctionConfiguration
            var Code: Code
            var Tags: [String: String]?
            var Concurrency: Concurrency?
        }
        let record = try record(name, request)
        let location =
            "http://\(request.headers.first(name: "Host") ?? "127.0.0.1:9000")/v1/functions/\(record.spec.name)/code"
        return answer(
            .ok,
            Answer(
                Configuration: FunctionConfiguration(record, context),
                Code: Code(Location: location),
                Tags: record.spec.tags.isEmpty ? nil : record.spec.tags,
                Concurrency: record.spec.concurrency == nil ? nil : Concurrency(record)
            )
        )
    }

    private func list(_ request: HTTPRequest) throws -> HTTPResponse {
        struct Answer: Encodable {
            var Functions: [FunctionConfiguration]
            var NextMarker: String?
        }
        let limit = request.query("MaxItems").flatMap { Int($0) } ?? 50
        guard (1...10_000).contains(limit) else { throw LambdaError.invalid("MaxItems must be between 1 and 10000") }
        let records = try context.deployments.records(after: request.query("Marker") ?? "", limit: limit + 1)
        let page = records.prefix(limit).map { FunctionConfiguration($0, context) }
        return answer(.ok, Answer(Functions: page, NextMarker: records.count > limit ? page.last?.FunctionName : nil))
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
        let record = try context.deployments.update(try reference(name, request).name) { $0.concurrency = count }
        return answer(.ok, Concurrency(record))
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
        let usage = Usage(TotalCodeSize: records.reduce(0) { $0 + $1.codeSize }, FunctionCount: records.count)
        return answer(.ok, Answer(AccountLimit: limit, AccountUsage: usage))
    }

    /// One version is kept.
    private func listVersions(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Answer: Encodable { var Versions: [FunctionConfiguration] }
        var configuration = FunctionConfiguration(try record(name, request), context)
        configuration.FunctionArn += ":$LATEST"
        return answer(.ok, Answer(Versions: [configuration]))
    }

    // MARK: Tags

    private struct Tags: Codable { var Tags: [String: String] }

    private func tag(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let added = try JSONText.decode(Tags.self, from: request.body.readableBytesView).Tags
        _ = try context.deployments.update(try reference(name, request).name) { spec in
            spec.tags.merge(added) { _, new in new }
            guard spec.tags.count <= 50 else { throw FunctionsError.invalid("a function has at most 50 tags") }
        }
        return HTTPResponse(.noContent)
    }

    private func untag(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let keys = Set(request.queries("tagKeys"))
        _ = try context.deployments.update(try reference(name, request).name) { spec in
            spec.tags = spec.tags.filter { !keys.contains($0.key) }
        }
        return HTTPResponse(.noContent)
    }

    private func delete(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        try context.deployments.remove(try reference(name, request).name)
        var response = HTTPResponse(.noContent)
        response.headers.add(name: "x-amzn-RequestId", value: RequestID.make())
        return response
    }
}
