// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTP
import NIOCore
import NIOHTTP1

/// What extensions are told of the function when they register.
package struct FunctionIdentity: Sendable {
    package var name: String
    package var version: String
    package var handler: String?
    package var account = ""
    /// `on-demand` or `provisioned-concurrency`.
    package var initialization = "on-demand"
    package var runtime: String?
    /// Whether a line of its log is a JSON object (`LoggingConfig`).
    package var logsJSON = false

    package init(name: String, version: String, handler: String?) {
        self.name = name
        self.version = version
        self.handler = handler
    }

    /// Of a sandbox that is no function's yet.
    package static let unassigned = FunctionIdentity(name: "", version: "", handler: nil)
}

/// The Extensions API and the Telemetry API, on the same listener as the Runtime API.
extension RuntimeServer {
    typealias Extensions = ExtensionRegistry<HTTPResponder>

    // MARK: From the sandbox's owner

    /// Tells those who asked for it that the limits have changed.
    package func resizeExtensions(memoryMB: Int64, cpuMillis: Int64?) {
        give(extensions.withLock { $0.resize(memoryMB: memoryMB, cpuMillis: cpuMillis) })
    }

    /// Tells those who asked for it that the sandbox ends, and when at the latest; `.extensionsDone` follows when they
    /// have done what they wanted. `false` when there is nobody to tell.
    package func shutDownExtensions(_ reason: ShutdownReason, deadlineMs: Int64) -> Bool {
        let deliveries = extensions.withLock { extensions in
            extensions.wantsShutdown ? extensions.shutdown(reason, deadlineMs: deadlineMs) : nil
        }
        give(deliveries ?? [])
        return deliveries != nil
    }

    /// Whether an extension is to be told before the sandbox ends.
    package var extensionsWantShutdown: Bool { extensions.withLock { $0.wantsShutdown } }

    /// Whether any extension has registered: only then is an end announced at all.
    package var hasExtensions: Bool { extensions.withLock { $0.hasLiving } }

    package var extensionSummaries: [ExtensionSummary] { extensions.withLock { $0.summaries } }

    func give(_ deliveries: [Extensions.Delivery]) {
        for delivery in deliveries { delivery.waiter.respond(HTTPResponse(.ok, text: delivery.event.json)) }
    }

    // MARK: From the sandbox

    func handle(_ route: ExtensionRoute, _ request: HTTPRequest, _ responder: HTTPResponder) {
        do throws(ExtensionRefusal) {
            switch route {
            case .register: try register(request, responder)
            case .next: try nextEvent(request, responder)
            case .initError, .exitError: try fail(route, request, responder)
            case .telemetry: try subscribe(request, responder)
            case .olderLogs:
                _ = try identifier(request)
                // As AWS's reference implementation answers where there is no Logs API.
                responder.respond(.runtimeError(.accepted, "Logs.NotSupported", "Logs API is not supported"))
            case .launched:
                let name = request.headers.first(name: "Lambda-Extension-Name") ?? ""
                try extensions.withLock { extensions throws(ExtensionRefusal) in try extensions.launched(name) }
                responder.respond(.accepted)
            case .extensionEnded: extensionEnded(request, responder)
            case .runtimeEnded:
                responder.respond(.accepted)
                onEvent(.runtimeEnded(status: exitStatus(request)))
            }
        } catch {
            responder.respond(.runtimeError(.forbidden, error.type, error.message))
        }
    }

    private func register(_ request: HTTPRequest, _ responder: HTTPResponder) throws(ExtensionRefusal) {
        let name = request.headers.first(name: "Lambda-Extension-Name") ?? ""
        guard !name.isEmpty else { throw .invalidName("Empty extension name") }
        let events = try ExtensionRegistration.read(request.body)
        let identifier = UUID().uuidString.lowercased()
        try extensions.withLock { extensions throws(ExtensionRefusal) in
            try extensions.register(name, events: events, identifier: identifier)
        }
        guard let identity else { throw .registrationClosed }
        var answer = ["functionName": identity.name, "functionVersion": identity.version]
        answer["handler"] = identity.handler ?? ""
        let features = request.headers["Lambda-Extension-Accept-Feature"].flatMap { $0.split(separator: ",") }
        if features.contains(where: { $0.filter { $0 != " " } == "accountId" }) {
            answer["accountId"] = identity.account
        }
        // Encoding strings cannot fail.
        let body = (try? JSONEncoder().encode(answer)) ?? Data("{}".utf8)
        let headers: HTTPHeaders = ["Lambda-Extension-Identifier": identifier]
        responder.respond(HTTPResponse(.ok, text: String(decoding: body, as: UTF8.self), headers: headers))
    }

    private func nextEvent(_ request: HTTPRequest, _ responder: HTTPResponder) throws(ExtensionRefusal) {
        let identifier = try identifier(request)
        let (next, isShutDown) = try extensions.withLock { extensions throws(ExtensionRefusal) in
            (try extensions.next(identifier, responder), extensions.isShutDown)
        }
        if let event = next.event {
            responder.respond(HTTPResponse(.ok, text: event.json))
        } else {
            responder.onDisconnect { [self] in extensions.withLock { $0.lost(identifier, next.token) } }
        }
        if next.isAtRest { onEvent(.waiting(isRepeated: false)) }
        if isShutDown { onEvent(.extensionsDone) }
    }

    private func fail(
        _ route: ExtensionRoute,
        _ request: HTTPRequest,
        _ responder: HTTPResponder
    ) throws(ExtensionRefusal) {
        let identifier = try identifier(request)
        guard let type = request.headers.first(name: "Lambda-Extension-Function-Error-Type"), !type.isEmpty else {
            throw .missingErrorType
        }
        let name = try extensions.withLock { extensions throws(ExtensionRefusal) in
            route == .initError ? try extensions.initError(identifier) : try extensions.exitError(identifier)
        }
        responder.respond(.accepted)
        let said = String(type.filter { $0.isASCII && !$0.isNewline }.prefix(256))
        let document = route == .initError ? "Extension.InitError" : "Extension.ExitError"
        onEvent(.extensionFailed(type: document, "extension \(name) reported \(said)"))
    }

    private func subscribe(
        _ request: HTTPRequest,
        _ responder: HTTPResponder
    ) throws(ExtensionRefusal) {
        let identifier = try identifier(request)
        let name = try extensions.withLock { extensions throws(ExtensionRefusal) in try extensions.name(identifier) }
        let subscription: TelemetrySubscription
        do throws(TelemetrySubscription.Problem) {
            subscription = try TelemetrySubscription.read(request.body)
        } catch {
            return responder.respond(.runtimeError(.badRequest, "ValidationError", error.description))
        }
        try telemetry.subscribe(name, subscription)
        responder.respond(HTTPResponse(.ok, text: #""OK""#))
    }

    private func extensionEnded(_ request: HTTPRequest, _ responder: HTTPResponder) {
        let name = request.headers.first(name: "Lambda-Extension-Name") ?? ""
        let (end, isShutDown) = extensions.withLock { ($0.exited(name), $0.isShutDown) }
        responder.respond(.accepted)
        switch end {
        case .crash:
            let status = exitStatus(request)
            let how = status > 128 ? "signal \(status - 128)" : "exit status \(status)"
            onEvent(.extensionFailed(type: "Extension.Crash", "extension \(name) ended: \(how)"))
        case .harmless(let isAtRest):
            if isAtRest { onEvent(.waiting(isRepeated: false)) }
        }
        if isShutDown { onEvent(.extensionsDone) }
    }

    private func exitStatus(_ request: HTTPRequest) -> Int32 {
        request.headers.first(name: "Fn-Exit-Status").flatMap { Int32($0) } ?? 0
    }

    private func identifier(_ request: HTTPRequest) throws(ExtensionRefusal) -> String {
        guard let text = request.headers.first(name: "Lambda-Extension-Identifier"), !text.isEmpty else {
            throw .missingIdentifier
        }
        guard let identifier = UUID(uuidString: text) else { throw .invalidIdentifier }
        return identifier.uuidString.lowercased()
    }
}
