// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import HTTP

/// Published versions. Blocking.
struct LambdaVersions {
    let control: LambdaControl
    private var context: GatewayContext { control.context }

    func answer(_ operation: LambdaOperation, _ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        operation == .publishVersion ? try publish(name, request) : try list(name, request)
    }

    private func publish(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable {
            var CodeSha256: String?
            var Description: String?
            var RevisionId: String?
        }
        let name = try control.unqualified(name, request).latest.spec.name
        // A body is not needed.
        let body = request.body.readableBytes > 0 ? request.body : .init(string: "{}")
        let members = try JSONText.decode(Members.self, from: body.readableBytesView)
        try JSONText.decode(RefusedMembers.self, from: body.readableBytesView).check()
        let version = try context.deployments.alone(with: name) {
            try context.deployments.publish(
                name,
                description: members.Description,
                expectedRevisionID: members.RevisionId,
                expectedSHA256: members.CodeSha256
            )
        }
        return control.answer(.created, FunctionConfiguration(version, context, qualifier: version.version))
    }

    /// `$LATEST` first, then the versions from the oldest on.
    private func list(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Answer: Encodable {
            var Versions: [FunctionConfiguration]
            var NextMarker: String?
        }
        let latest = try control.unqualified(name, request).latest
        let (marker, limit) = try LambdaControl.page(request)
        let isFirst = marker.isEmpty
        let versions = try context.deployments.versions(of: latest.spec.name, after: Int(marker) ?? 0, limit: limit + 1)
        let found = (isFirst ? [latest] : []) + versions
        let page = found.prefix(limit).map { FunctionConfiguration($0, context, qualifier: $0.version) }
        // After a page of $LATEST alone the versions begin with the first.
        let next = page.last.map { $0.Version == FunctionRecord.latest ? "0" : $0.Version }
        return control.answer(.ok, Answer(Versions: page, NextMarker: found.count > limit ? next : nil))
    }

    /// All versions of all functions, by name, then as `list` has them; markers are `name:version`.
    func all(after marker: String, _ limit: Int) throws -> (page: [FunctionConfiguration], next: String?) {
        let (name, number) = try Self.place(marker)
        var found: [FunctionRecord] = []
        if let name {
            found = try context.deployments.versions(of: name, after: number, limit: limit + 1)
        }
        for latest in try context.deployments.records(after: name ?? "", limit: .max) where found.count <= limit {
            found.append(latest)
            found += try context.deployments.versions(of: latest.spec.name, after: 0, limit: limit + 1)
        }
        let page = found.prefix(limit).map { FunctionConfiguration($0, context, qualifier: $0.version) }
        let next = page.last.map { "\($0.FunctionName):\($0.Version)" }
        return (page, found.count > limit ? next : nil)
    }

    private static func place(_ marker: String) throws(LambdaError) -> (name: String?, number: Int) {
        guard !marker.isEmpty else { return (nil, 0) }
        let reference = try FunctionReference(marker)
        return (reference.name, reference.qualifier.flatMap { Int($0) } ?? 0)
    }

    func delete(_ name: String, _ qualifier: String) throws -> HTTPResponse {
        guard try context.deployments.record(name) != nil else {
            throw LambdaError.notFound(FunctionReference.arn(name))
        }
        guard qualifier != FunctionRecord.latest else {
            throw LambdaError.invalid("$LATEST version cannot be deleted without deleting the function.")
        }
        guard Int(qualifier) != nil else {
            throw LambdaError.invalid("Deletion of aliases is not currently supported.")
        }
        try context.deployments.removeVersion(qualifier, of: name)
        return control.done
    }
}
