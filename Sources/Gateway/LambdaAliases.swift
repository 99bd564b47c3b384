// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import HTTP

/// Aliases: names for versions, with weights. Blocking.
struct LambdaAliases {
    let control: LambdaControl
    private var context: GatewayContext { control.context }

    private struct Routing: Codable { var AdditionalVersionWeights: [String: Double]? }
    private struct Members: Decodable {
        var Name: String?
        var FunctionVersion: String?
        var Description: String?
        var RoutingConfig: Routing?
        var RevisionId: String?
    }
    private struct Answer: Encodable {
        var AliasArn: String
        var Name: String
        var FunctionVersion: String
        var Description: String
        var RoutingConfig: Routing?
        var RevisionId: String

        init(_ alias: AliasRecord) {
            AliasArn = FunctionReference.arn(alias.function, qualifier: alias.name)
            Name = alias.name
            FunctionVersion = alias.version
            Description = alias.description ?? ""
            RoutingConfig = alias.weights.isEmpty ? nil : Routing(AdditionalVersionWeights: alias.weights)
            RevisionId = alias.revisionID
        }
    }

    func answer(_ operation: LambdaOperation, _ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let function = try control.unqualified(name, request)
        let name = function.latest.spec.name
        switch operation {
        case .createAlias: return try create(name, request)
        case .updateAlias(let alias): return try update(name, alias, request)
        case .deleteAlias(let alias):
            try context.deployments.removeAlias(alias, of: name)
            return control.done
        case .getAlias(let alias):
            guard let record = function.aliases[alias] else {
                throw FunctionsError.aliasNotFound(function: name, name: alias)
            }
            return control.answer(.ok, Answer(record))
        default: return try list(name, request)
        }
    }

    private func create(_ function: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        guard let name = members.Name, let version = members.FunctionVersion else {
            throw LambdaError.invalid("Name and FunctionVersion are needed")
        }
        try Self.checkName(name)
        try check(members)
        var alias = AliasRecord(function: function, name: name, version: version)
        alias.description = members.Description
        alias.weights = members.RoutingConfig?.AdditionalVersionWeights ?? [:]
        return control.answer(.created, Answer(try context.deployments.create(alias)))
    }

    private func update(_ function: String, _ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        try check(members)
        let alias = try context.deployments.updateAlias(name, of: function, expectedRevisionID: members.RevisionId) {
            alias in
            alias.version = members.FunctionVersion ?? alias.version
            alias.description = members.Description ?? alias.description
            if let routing = members.RoutingConfig { alias.weights = routing.AdditionalVersionWeights ?? [:] }
        }
        return control.answer(.ok, Answer(alias))
    }

    private func list(_ function: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct List: Encodable {
            var Aliases: [Answer]
            var NextMarker: String?
        }
        let version = request.query("FunctionVersion")
        let found = try context.deployments.aliases(of: function)
            .filter { version == nil || $0.shares[version ?? ""] != nil }
        let page = try LambdaControl.page(of: found, request, by: \.name)
        return control.answer(.ok, List(Aliases: page.items.map { Answer($0) }, NextMarker: page.next))
    }

    private func check(_ members: Members) throws(LambdaError) {
        if let version = members.FunctionVersion, version != FunctionRecord.latest, !Self.isNumber(version) {
            throw .validation(version, "functionVersion", "satisfy regular expression pattern: (\\$LATEST|[0-9]+)")
        }
        for version in (members.RoutingConfig?.AdditionalVersionWeights ?? [:]).keys.sorted()
        where version != FunctionRecord.latest && !Self.isNumber(version) {
            let member = "routingConfig.additionalVersionWeights"
            throw .validation(version, member, "satisfy regular expression pattern: [0-9]+")
        }
        if let text = members.Description, text.count > 256 {
            throw .validation(text, "description", "have length less than or equal to 256")
        }
    }

    /// A name that no version can have.
    private static func checkName(_ name: String) throws(LambdaError) {
        let isName =
            (1...128).contains(name.utf8.count) && !isNumber(name)
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
        guard isName else {
            let pattern = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)"
            throw .validation(name, "name", "satisfy regular expression pattern: \(pattern)")
        }
    }

    private static func isNumber(_ text: String) -> Bool {
        !text.isEmpty && text.allSatisfy { $0.isASCII && $0.isNumber }
    }
}
