// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import HTTP
import Linux
import Settings

/// `FunctionUrlConfig`: how a function, or an alias of it, answers at its own address. Blocking.
struct LambdaUrls {
    let control: LambdaControl
    private var context: GatewayContext { control.context }

    private struct Cors: Codable {
        var AllowCredentials: Bool?
        var AllowHeaders: [String]?
        var AllowMethods: [String]?
        var AllowOrigins: [String]?
        var ExposeHeaders: [String]?
        var MaxAge: Int?
    }
    private struct Members: Decodable {
        var AuthType: String?
        var Cors: Cors?
        var InvokeMode: String?
    }
    private struct Answer: Encodable {
        var FunctionUrl: String
        var FunctionArn: String
        var AuthType: String
        var Cors: Cors?
        var CreationTime: String
        var LastModifiedTime: String?
        var InvokeMode: String
    }

    func answer(
        _ operation: LambdaOperation,
        _ function: RegisteredFunction,
        _ qualifier: String?,
        _ request: HTTPRequest
    ) throws -> HTTPResponse {
        let name = function.latest.spec.name
        if operation == .listUrls { return try list(function, request) }
        if let qualifier, function.aliases[qualifier] == nil {
            throw LambdaError.validation(
                qualifier,
                "qualifier",
                "satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)"
            )
        }
        let place = qualifier ?? FunctionRecord.latest
        let (arn, old) = (FunctionReference.arn(name, qualifier: qualifier), function.urls[place])
        if operation == .createUrl {
            let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
            guard members.AuthType != nil else { throw LambdaError.invalid("AuthType is missing") }
            let url = try apply(members, to: UrlRecord(access: .signed, createdMs: WallClock.nowMs()))
            try context.deployments.setUrl(url, of: name, place) { old in
                guard old == nil else {
                    throw FunctionsError.conflict(
                        "Failed to create function url config for [functionArn = \(arn)]. Error message:  "
                            + "FunctionUrlConfig exists for this Lambda function"
                    )
                }
            }
            var answer = view(url, name, qualifier, request)
            answer.LastModifiedTime = nil
            return control.answer(.created, answer)
        }
        guard let old else {
            throw LambdaError(
                .notFound,
                "ResourceNotFoundException",
                "The resource you requested does not exist."
            )
        }
        switch operation {
        case .updateUrl:
            let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
            var url = try apply(members, to: old)
            url.modifiedMs = WallClock.nowMs()
            try context.deployments.setUrl(url, of: name, place) { current in
                // Changed or removed since it was looked at: what is asked for was meant for something else.
                guard current == old else { throw FunctionsError.busy(name) }
            }
            return control.answer(.ok, view(url, name, qualifier, request))
        case .deleteUrl:
            try context.deployments.setUrl(nil, of: name, place) { current in
                guard current != nil else { throw FunctionsError.notFound(name) }
            }
            return control.done
        default: return control.answer(.ok, view(old, name, qualifier, request))
        }
    }

    private func list(_ function: RegisteredFunction, _ request: HTTPRequest) throws -> HTTPResponse {
        struct List: Encodable {
            var FunctionUrlConfigs: [Answer]
            var NextMarker: String?
        }
        let page = try LambdaControl.page(of: function.urls.sorted { $0.key < $1.key }, request) { $0.key }
        let answers = page.items.map { place, url in
            view(url, function.latest.spec.name, place == FunctionRecord.latest ? nil : place, request)
        }
        return control.answer(.ok, List(FunctionUrlConfigs: answers, NextMarker: page.next))
    }

    private func view(_ url: UrlRecord, _ name: String, _ qualifier: String?, _ request: HTTPRequest) -> Answer {
        let place = qualifier.map { "\(name):\($0)" } ?? name
        func time(_ ms: Int64) -> String { WallClock.iso8601(ms) }
        return Answer(
            FunctionUrl: LambdaControl.location(request, "/url/\(place)/"),
            FunctionArn: FunctionReference.arn(name, qualifier: qualifier),
            AuthType: url.access.rawValue,
            Cors: url.cors.map { cors in
                Cors(
                    AllowCredentials: cors.allowCredentials,
                    AllowHeaders: cors.allowHeaders,
                    AllowMethods: cors.allowMethods,
                    AllowOrigins: cors.allowOrigins,
                    ExposeHeaders: cors.exposeHeaders,
                    MaxAge: cors.maxAge
                )
            },
            CreationTime: time(url.createdMs),
            LastModifiedTime: time(url.modifiedMs),
            InvokeMode: url.mode.rawValue
        )
    }

    private func apply(_ members: Members, to old: UrlRecord) throws(LambdaError) -> UrlRecord {
        var url = old
        if let text = members.AuthType {
            guard let access = UrlRecord.Access(rawValue: text) else {
                throw .validation(text, "authType", "satisfy enum value set: [NONE, AWS_IAM]")
            }
            if let problem = Self.problem(access, context.catalog.settings.auth) { throw .invalid(problem) }
            url.access = access
        }
        if let text = members.InvokeMode {
            guard let mode = UrlRecord.Mode(rawValue: text) else {
                throw .validation(text, "invokeMode", "satisfy enum value set: [BUFFERED, RESPONSE_STREAM]")
            }
            url.mode = mode
        }
        if let cors = members.Cors { url.cors = try Self.read(cors) }
        return url
    }

    /// Why the port would not do what an `AuthType` says; `nil` when it does.
    static func problem(_ access: UrlRecord.Access, _ auth: Settings.Auth) -> String? {
        switch (access, auth.mode) {
        case (.signed, .none), (.signed, .token):
            "AuthType AWS_IAM needs keys to check signatures with: auth.mode sigv4 or any in fn.yaml"
        case (.open, .token) where !auth.openUrls, (.open, .sigv4) where !auth.openUrls,
            (.open, .any) where !auth.openUrls:
            "AuthType NONE would let in everybody, and this daemon wants to know who asks: use AWS_IAM, or set auth.open_urls in fn.yaml"
        default: nil
        }
    }

    private static func read(_ given: Cors) throws(LambdaError) -> UrlRecord.CORS? {
        var cors = UrlRecord.CORS()
        cors.allowCredentials = given.AllowCredentials
        cors.allowHeaders = given.AllowHeaders
        cors.allowMethods = given.AllowMethods
        cors.allowOrigins = given.AllowOrigins
        cors.exposeHeaders = given.ExposeHeaders
        cors.maxAge = given.MaxAge
        if let age = given.MaxAge, !(0...86_400).contains(age) {
            throw .validation(String(age), "cors.maxAge", "have value between 0 and 86400")
        }
        if given.AllowMethods?.count ?? 0 > 6 {
            throw .validation("\(given.AllowMethods ?? [])", "cors.allowMethods", "have length less than or equal to 6")
        }
        let lists = [given.AllowHeaders, given.AllowMethods, given.AllowOrigins, given.ExposeHeaders].compactMap { $0 }
        for text in lists.joined() where text.utf8.count > 1024 || text.utf8.contains(where: { $0 < 0x20 || $0 > 0x7E })
        {
            throw .invalid("Cors: '\(text.prefix(64))' is no header, method or origin")
        }
        for origin in given.AllowOrigins ?? [] where origin != "*" && !origin.contains("://") {
            throw .invalid("Cors: '\(origin)' is no origin: it has to be * or of the form https://www.example.com")
        }
        return cors == UrlRecord.CORS() ? nil : cors
    }
}
