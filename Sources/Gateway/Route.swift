// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOHTTP1
import Units

/// The operations of Lambda's control plane that are offered.
enum LambdaOperation: Equatable {
    case createFunction
    case listFunctions
    case getFunction
    case getConfiguration
    case updateConfiguration
    case updateCode
    case deleteFunction
    case getEventConfig
    case putEventConfig
    case updateEventConfig
    case deleteEventConfig
    case listEventConfigs
    case createUrl
    case getUrl
    case updateUrl
    case deleteUrl
    case listUrls
    case putConcurrency
    case getConcurrency
    case deleteConcurrency
    case accountSettings
    case publishVersion
    case listVersions
    case createAlias
    case listAliases
    case getAlias(String)
    case updateAlias(String)
    case deleteAlias(String)
    case putProvisioned
    case getProvisioned
    case deleteProvisioned
    case listLayers
    case publishLayer
    case listLayerVersions
    case getLayer(String)
    case deleteLayer(String)
    case listTags
    case tag
    case untag
    /// Anything else below one of Lambda's dates.
    case notOffered
}

/// Where a request goes.
enum Route: Equatable {
    case invoke(String)
    /// A function's own web space: its name, and the path below it, still percent-encoded.
    case url(String, path: String)
    case lambdaInvoke(String)
    case lambdaInvokeAsync(String)
    case lambdaInvokeStream(String)
    case lambda(LambdaOperation, String)
    /// A file of the web page, by its name; the page itself has none.
    case page(String)
    /// What all of this is, for machines.
    case specification
    case health
    case ready
    case deploy
    case deployImage(String)
    case functions
    case function(String)
    case updateFunction(String)
    case removeFunction(String)
    case followLogs(String)
    case code(String)
    case size(String)
    case sizes
    case layerCode(String, String)
    case sandboxes
    case ledger
    case decisions
    case events
    case metrics
    case doctor
    case version
    case config
    case reloadConfig
    case diffConfig
    case queue
    case purgeQueue
    case event(String)
    case retryEvent(String)
    case schedules

    /// - Parameter path: still percent-encoded; names are decoded here.
    init?(_ method: HTTPMethod, _ path: String) {
        if let name = Self.invoked(method, path) {
            self = .lambdaInvoke(name)
            return
        }
        if let url = Self.url(path) {
            self = url
            return
        }
        var encoded = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        if encoded.last?.isEmpty == true { encoded = encoded.dropLast() }  // older SDKs end paths with a slash
        let parts = encoded.compactMap { PercentEncoding.decode($0) }
        guard parts.count == encoded.count else { return nil }
        let route: Route? =
            switch parts.first {
            case "2015-03-31": Self.lambda(method, Array(parts.dropFirst()))
            case "2014-11-13" where method == .POST && parts.count == 4 && parts[3] == "invoke-async":
                .lambdaInvokeAsync(parts[2])
            case "2021-11-15"
            where method == .POST && parts.count == 4 && parts[3] == "response-streaming-invocations":
                .lambdaInvokeStream(parts[2])
            case "2016-08-19" where method == .GET && parts.dropFirst() == ["account-settings"]:
                .lambda(.accountSettings, "")
            case "2018-10-31": Self.layers(method, Array(parts.dropFirst()))
            case "2017-10-31", "2019-09-30": Self.concurrency(method, Array(parts.dropFirst()))
            case "2017-03-31": Self.tags(method, Array(parts.dropFirst()))
            case "2019-09-25": Self.eventConfig(method, Array(parts.dropFirst()))
            case "2021-10-31": Self.urlConfig(method, Array(parts.dropFirst()))
            case "v1": Self.v1(method, Array(parts.dropFirst()))
            case "invoke" where method == .POST && parts.count == 2: .invoke(parts[1])
            case nil where method == .GET, "page.css" where parts.count == 1 && method == .GET,
                "page.js" where parts.count == 1 && method == .GET:
                .page(parts.first ?? "")
            case "openapi.yaml" where parts.count == 1 && method == .GET: .specification
            case "healthz" where parts.count == 1 && (method == .GET || method == .HEAD): .health
            case "metrics" where parts.count == 1 && method == .GET: .metrics
            case "readyz" where parts.count == 1 && (method == .GET || method == .HEAD): .ready
            default: nil
            }
        // Lambda's clients are told in Lambda's words what there is not.
        guard let route = route ?? (Self.isDate(parts.first) ? .lambda(.notOffered, "\(method) \(path)") : nil) else {
            return nil
        }
        self = route
    }

    /// Whether a path begins as those of Lambda's API do: `2015-03-31`.
    private static func isDate(_ text: String?) -> Bool {
        guard let parts = text?.split(separator: "-", omittingEmptySubsequences: false) else { return false }
        return parts.map(\.count) == [4, 2, 2] && parts.joined().allSatisfy { $0.isASCII && $0.isNumber }
    }

    /// The function of a plain `Invoke`, without taking the path apart: most requests are one.
    private static func invoked(_ method: HTTPMethod, _ path: String) -> String? {
        guard method == .POST, let name = path.between("/2015-03-31/functions/", "/invocations") else { return nil }
        let isPlain = name.utf8
            .allSatisfy { $0 != UInt8(ascii: "%") && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        return isPlain ? String(name) : nil
    }

    /// `/url/NAME` and everything below it, with any method.
    private static func url(_ path: String) -> Route? {
        let parts = path.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count > 2, parts[0].isEmpty, parts[1] == "url", let name = PercentEncoding.decode(parts[2]),
            !name.isEmpty
        else { return nil }
        return .url(name, path: "/" + (parts.count > 3 ? parts[3] : ""))
    }

    private static func lambda(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.first == "functions" else { return nil }
        switch (method, parts.count) {
        case (.POST, 1): return .lambda(.createFunction, "")
        case (.GET, 1): return .lambda(.listFunctions, "")
        case (.GET, 2): return .lambda(.getFunction, parts[1])
        case (.DELETE, 2): return .lambda(.deleteFunction, parts[1])
        case (.POST, 3) where parts[2] == "invocations": return .lambdaInvoke(parts[1])
        case (.GET, 3) where parts[2] == "versions": return .lambda(.listVersions, parts[1])
        case (.POST, 3) where parts[2] == "versions": return .lambda(.publishVersion, parts[1])
        case (.POST, 3) where parts[2] == "aliases": return .lambda(.createAlias, parts[1])
        case (.GET, 3) where parts[2] == "aliases": return .lambda(.listAliases, parts[1])
        case (.GET, 4) where parts[2] == "aliases": return .lambda(.getAlias(parts[3]), parts[1])
        case (.PUT, 4) where parts[2] == "aliases": return .lambda(.updateAlias(parts[3]), parts[1])
        case (.DELETE, 4) where parts[2] == "aliases": return .lambda(.deleteAlias(parts[3]), parts[1])
        case (.GET, 3) where parts[2] == "configuration": return .lambda(.getConfiguration, parts[1])
        case (.PUT, 3) where parts[2] == "configuration": return .lambda(.updateConfiguration, parts[1])
        case (.PUT, 3) where parts[2] == "code": return .lambda(.updateCode, parts[1])
        default: return nil
        }
    }

    private static func concurrency(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.count == 3, parts[0] == "functions" else { return nil }
        switch (method, parts[2]) {
        case (.PUT, "concurrency"): return .lambda(.putConcurrency, parts[1])
        case (.GET, "concurrency"): return .lambda(.getConcurrency, parts[1])
        case (.DELETE, "concurrency"): return .lambda(.deleteConcurrency, parts[1])
        case (.PUT, "provisioned-concurrency"): return .lambda(.putProvisioned, parts[1])
        case (.GET, "provisioned-concurrency"): return .lambda(.getProvisioned, parts[1])
        case (.DELETE, "provisioned-concurrency"): return .lambda(.deleteProvisioned, parts[1])
        default: return nil
        }
    }

    private static func layers(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.first == "layers" else { return nil }
        switch (method, parts.count) {
        case (.GET, 1): return .lambda(.listLayers, "")
        case (.POST, 3) where parts[2] == "versions": return .lambda(.publishLayer, parts[1])
        case (.GET, 3) where parts[2] == "versions": return .lambda(.listLayerVersions, parts[1])
        case (.GET, 4) where parts[2] == "versions": return .lambda(.getLayer(parts[3]), parts[1])
        case (.DELETE, 4) where parts[2] == "versions": return .lambda(.deleteLayer(parts[3]), parts[1])
        default: return nil
        }
    }

    private static func tags(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.count == 2, parts[0] == "tags" else { return nil }
        switch method {
        case .GET: return .lambda(.listTags, parts[1])
        case .POST: return .lambda(.tag, parts[1])
        case .DELETE: return .lambda(.untag, parts[1])
        default: return nil
        }
    }

    private static func eventConfig(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.count >= 3, parts[0] == "functions", parts[2] == "event-invoke-config" else { return nil }
        switch (method, parts.count) {
        case (.GET, 3): return .lambda(.getEventConfig, parts[1])
        case (.PUT, 3): return .lambda(.putEventConfig, parts[1])
        case (.POST, 3): return .lambda(.updateEventConfig, parts[1])
        case (.DELETE, 3): return .lambda(.deleteEventConfig, parts[1])
        case (.GET, 4) where parts[3] == "list": return .lambda(.listEventConfigs, parts[1])
        default: return nil
        }
    }

    private static func urlConfig(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        guard parts.count == 3, parts[0] == "functions" else { return nil }
        switch (method, parts[2]) {
        case (.POST, "url"): return .lambda(.createUrl, parts[1])
        case (.GET, "url"): return .lambda(.getUrl, parts[1])
        case (.PUT, "url"): return .lambda(.updateUrl, parts[1])
        case (.DELETE, "url"): return .lambda(.deleteUrl, parts[1])
        case (.GET, "urls"): return .lambda(.listUrls, parts[1])
        default: return nil
        }
    }

    private static func v1(_ method: HTTPMethod, _ parts: [String]) -> Route? {
        switch (method, parts.count) {
        case (.PUT, 1) where parts[0] == "functions": return .deploy
        case (.GET, 1) where parts[0] == "functions": return .functions
        case (.GET, 2) where parts[0] == "functions": return .function(parts[1])
        case (.PATCH, 2) where parts[0] == "functions": return .updateFunction(parts[1])
        case (.DELETE, 2) where parts[0] == "functions": return .removeFunction(parts[1])
        case (.PUT, 3) where parts[0] == "functions" && parts[2] == "image": return .deployImage(parts[1])
        case (.GET, 3) where parts[0] == "functions" && parts[2] == "logs": return .followLogs(parts[1])
        case (.GET, 3) where parts[0] == "functions" && parts[2] == "code": return .code(parts[1])
        case (.GET, 3) where parts[0] == "functions" && parts[2] == "size": return .size(parts[1])
        case (.GET, 1) where parts[0] == "sizes": return .sizes
        case (.GET, 4) where parts[0] == "layers" && parts[3] == "code": return .layerCode(parts[1], parts[2])
        case (.GET, 1) where parts[0] == "sandboxes": return .sandboxes
        case (.GET, 1) where parts[0] == "ledger": return .ledger
        case (.GET, 1) where parts[0] == "decisions": return .decisions
        case (.GET, 1) where parts[0] == "events": return .events
        case (.GET, 1) where parts[0] == "doctor": return .doctor
        case (.GET, 1) where parts[0] == "version": return .version
        case (.GET, 1) where parts[0] == "config": return .config
        case (.POST, 2) where parts == ["config", "reload"]: return .reloadConfig
        case (.POST, 2) where parts == ["config", "diff"]: return .diffConfig
        case (.GET, 1) where parts[0] == "queue": return .queue
        case (.DELETE, 1) where parts[0] == "queue": return .purgeQueue
        case (.GET, 2) where parts[0] == "queue": return .event(parts[1])
        case (.POST, 3) where parts[0] == "queue" && parts[2] == "retry": return .retryEvent(parts[1])
        case (.GET, 1) where parts[0] == "schedules": return .schedules
        default: return nil
        }
    }
}

extension Route {
    /// The methods that a path takes.
    static func methods(_ path: String) -> [HTTPMethod] {
        [.GET, .HEAD, .POST, .PUT, .PATCH, .DELETE].filter { Route($0, path) != nil }
    }

    /// Whether a path is Lambda's: those begin with the date of an API.
    static func isLambda(_ path: String) -> Bool {
        let first = path.split(separator: "/").first ?? ""
        let digits = first.utf8.map { (0x30...0x39).contains($0) ? "0" : Character(Unicode.Scalar($0)) }
        return digits == Array("0000-00-00")
    }

    /// What tells nothing and is asked by those who have no keys: load balancers, supervisors.
    static func isOpen(_ path: String) -> Bool { path == "/healthz" || path == "/readyz" }
}
