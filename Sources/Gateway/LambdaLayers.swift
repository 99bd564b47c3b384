// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import HTTP
import Linux

/// Layers: archives that functions have at `/opt`. Blocking.
struct LambdaLayers {
    let control: LambdaControl
    private var context: GatewayContext { control.context }
    private static let mostOfAFunction = 5

    private struct Summary: Encodable {
        var LayerVersionArn: String
        var Version: Int
        var Description: String
        var CreatedDate: String
        var CompatibleRuntimes: [String]?
        var CompatibleArchitectures: [String]?
        var LicenseInfo: String?

        init(_ layer: LayerRecord) {
            LayerVersionArn = LayerReference(name: layer.name, version: layer.version).description
            Version = layer.version
            Description = layer.description ?? ""
            CreatedDate = String(WallClock.iso8601(layer.createdMs).dropLast()) + "+0000"
            CompatibleRuntimes = layer.runtimes
            CompatibleArchitectures = layer.architectures
            LicenseInfo = layer.license
        }
    }

    func answer(_ operation: LambdaOperation, _ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        switch operation {
        case .publishLayer: return try publish(try LayerReference.checkName(name), request)
        case .getLayer(let version): return try get(try LayerReference(name, version: version), request)
        case .deleteLayer(let version):
            let layer = try LayerReference(name, version: version)
            try context.deployments.deleteLayer(layer.name, layer.version)
            return control.done
        case .listLayerVersions: return try listVersions(try LayerReference.checkName(name), request)
        default:
            guard request.query("find") == "LayerVersion" else { return try list(request) }
            return try get(try LayerReference(arn: request.query("Arn") ?? ""), request)
        }
    }

    private func publish(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable {
            var Content: CodeMembers?
            var Description: String?
            var LicenseInfo: String?
            var CompatibleRuntimes: [String]?
            var CompatibleArchitectures: [String]?
        }
        struct Refused: Decodable { var Content: RefusedMembers? }
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        try JSONText.decode(Refused.self, from: request.body.readableBytesView).Content?.check()
        guard let archive = members.Content?.ZipFile.flatMap({ Base64.decode($0) }) else {
            throw LambdaError.invalid("Content must be given as ZipFile, in base64")
        }
        let layer = try context.deployments.publish(archive: archive) { code in
            var layer = LayerRecord(name: name, code: code)
            layer.description = members.Description
            layer.license = members.LicenseInfo
            layer.runtimes = members.CompatibleRuntimes
            layer.architectures = members.CompatibleArchitectures
            return layer
        }
        return control.answer(.created, Answer(layer, request))
    }

    private struct Answer: Encodable {
        struct Archive: Encodable {
            var Location: String
            var CodeSha256: String
            var CodeSize: Int64
        }
        var Content: Archive
        var LayerArn: String
        var LayerVersionArn: String
        var Description: String
        var CreatedDate: String
        var Version: Int
        var CompatibleRuntimes: [String]?
        var CompatibleArchitectures: [String]?
        var LicenseInfo: String?

        init(_ layer: LayerRecord, _ request: HTTPRequest) {
            let (summary, place) = (Summary(layer), "/v1/layers/\(layer.name)/\(layer.version)/code")
            Content = Archive(
                Location: LambdaControl.location(request, place),
                CodeSha256: layer.sha256Base64,
                CodeSize: layer.size
            )
            LayerArn = LayerReference.arn(layer.name)
            LayerVersionArn = summary.LayerVersionArn
            Description = summary.Description
            CreatedDate = summary.CreatedDate
            Version = summary.Version
            CompatibleRuntimes = summary.CompatibleRuntimes
            CompatibleArchitectures = summary.CompatibleArchitectures
            LicenseInfo = summary.LicenseInfo
        }
    }

    private func get(_ reference: LayerReference, _ request: HTTPRequest) throws -> HTTPResponse {
        guard let layer = try context.deployments.layer(reference.name, reference.version) else {
            throw LambdaError(
                .notFound,
                "ResourceNotFoundException",
                "The resource you requested does not exist: \(reference)"
            )
        }
        return control.answer(.ok, Answer(layer, request))
    }

    private func matching(_ layers: [LayerRecord], _ request: HTTPRequest) -> [LayerRecord] {
        let (runtime, machine) = (request.query("CompatibleRuntime"), request.query("CompatibleArchitecture"))
        return layers.filter { layer in
            (runtime.map { layer.runtimes?.contains($0) ?? false } ?? true)
                && (machine.map { layer.architectures?.contains($0) ?? false } ?? true)
        }
    }

    /// Newest first.
    private func listVersions(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct List: Encodable {
            var LayerVersions: [Summary]
            var NextMarker: String?
        }
        let (marker, limit) = try LambdaControl.page(request)
        let found = matching(try context.deployments.layers(name), request)
            .filter { $0.version < (Int(marker) ?? .max) }
        let page = found.prefix(limit).map { Summary($0) }
        let next = found.count > limit ? page.last.map { String($0.Version) } : nil
        return control.answer(.ok, List(LayerVersions: page, NextMarker: next))
    }

    private func list(_ request: HTTPRequest) throws -> HTTPResponse {
        struct Layer: Encodable {
            var LayerName: String
            var LayerArn: String
            var LatestMatchingVersion: Summary
        }
        struct List: Encodable {
            var Layers: [Layer]
            var NextMarker: String?
        }
        var found: [LayerRecord] = []
        for layer in matching(try context.deployments.layers(), request) where layer.name != found.last?.name {
            found.append(layer)  // by name, the newest first: the first of each name is its latest
        }
        let page = try LambdaControl.page(of: found, request, by: \.name)
        let layers = page.items.map {
            Layer(LayerName: $0.name, LayerArn: LayerReference.arn($0.name), LatestMatchingVersion: Summary($0))
        }
        return control.answer(.ok, List(Layers: layers, NextMarker: page.next))
    }

    /// The layers that a function names.
    func find(_ arns: [String]) throws -> [FunctionLayer] {
        guard arns.count <= Self.mostOfAFunction else {
            throw LambdaError.invalid("Cannot reference more than \(Self.mostOfAFunction) layers.")
        }
        var names: [String: String] = [:]
        return try arns.map { arn in
            let reference = try LayerReference(arn: arn)
            if let other = names.updateValue(arn, forKey: reference.name) {
                throw LambdaError.invalid(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. \(other) and \(arn)"
                )
            }
            guard let layer = try context.deployments.layer(reference.name, reference.version) else {
                throw LambdaError.invalid("Layer version \(arn) does not exist.")
            }
            return FunctionLayer(arn: reference.description, sha256: layer.sha256, codeSize: layer.size)
        }
    }
}
