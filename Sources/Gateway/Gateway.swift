// SPDX-License-Identifier: Apache-2.0
import Access
import Dispatching
import FnProtocol
import Functions
import HTTP
import Linux
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Pool
import Settings
import Telemetry
import Tracing
import Units

/// Everything the doors need. Built once by the daemon.
package struct GatewayContext: Sendable {
    package var catalog: FunctionCatalog
    package var dispatcher: Dispatcher
    package var queue: EventQueue
    package var runner: EventRunner
    package var deployments: Deployments
    package var pool: SandboxPool
    package var log: FunctionLog
    package var decisions: DecisionLog
    package var metrics: Metrics
    package var settings: SettingsSource
    package var tracer: Tracer
    package var doctor: @Sendable () -> DoctorReport
    package var limitsEnforced: Bool
    /// Threads for what may block: the control plane.
    package var workers: NIOThreadPool
    /// When the daemon built this, in milliseconds since the epoch.
    package var startedMs = WallClock.nowMs()
    package var images: ImageIntake
    package let readiness = Readiness()

    package init(
        catalog: FunctionCatalog,
        dispatcher: Dispatcher,
        queue: EventQueue,
        runner: EventRunner,
        deployments: Deployments,
        pool: SandboxPool,
        log: FunctionLog,
        decisions: DecisionLog,
        metrics: Metrics,
        settings: SettingsSource,
        tracer: Tracer,
        doctor: @escaping @Sendable () -> DoctorReport,
        limitsEnforced: Bool,
        workers: NIOThreadPool,
        images: ImageIntake
    ) {
        self.catalog = catalog
        self.dispatcher = dispatcher
        self.queue = queue
        self.runner = runner
        self.deployments = deployments
        self.pool = pool
        self.log = log
        self.decisions = decisions
        self.metrics = metrics
        self.settings = settings
        self.tracer = tracer
        self.doctor = doctor
        self.limitsEnforced = limitsEnforced
        self.workers = workers
        self.images = images
    }
}

/// The doors: Lambda's API, the plain `/invoke`, functions' own `/url`, and `/v1`.
///
/// Invocations stay on the event loop. Everything else is the control plane: it may touch the disk and runs on workers.
package struct Gateway: Sendable {
    let context: GatewayContext
    private let isForBrowsers: Bool
    private let isSecure: Bool
    private let access: Authenticator?
    private let doors: Doors

    /// What is behind one listener.
    package enum Doors: Sendable {
        case all
        /// `/metrics` has a listener of its own.
        case allButMetrics
        case metrics

        func open(_ path: String) -> Bool {
            switch self {
            case .all: true
            case .allButMetrics: path != "/metrics"
            case .metrics: path == "/metrics" || Route.isOpen(path)
            }
        }
    }

    /// - Parameters:
    ///   - isForBrowsers: whether browsers can reach this door, as they can any port and no Unix socket.
    ///   - isSecure: whether it speaks TLS.
    ///   - access: who is let in; `nil` is everybody.
    ///   - doors: what else there is none of here.
    package init(
        _ context: GatewayContext,
        isForBrowsers: Bool,
        isSecure: Bool = false,
        access: Authenticator? = nil,
        doors: Doors = .all
    ) {
        self.context = context
        self.doors = doors
        self.isSecure = isSecure
        self.isForBrowsers = isForBrowsers
        self.access = access
    }

    /// What the HTTP servers call for each request.
    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        var request = request
        request.isSecure = isSecure
        if let problem = strangeness(request) { return responder.respond(problem) }
        switch rule(request) {
        case .open: route(request, responder)
        case .closed(let why): responder.respond(Self.forbidden(why))
        case .guarded(let access, let signedOnly): admit(request, responder, access, signedOnly: signedOnly)
        }
    }

    /// What the HTTP servers ask for each request: who takes its body as it comes. Only images are taken so.
    package func streamHandler(_ head: HTTPRequestHead) -> HTTPStreamHandler? {
        // Most requests are none, and are not to pay for it.
        guard head.method == .PUT, head.uri.hasPrefix("/v1/functions/"), doors != .metrics else { return nil }
        guard case .deployImage(let name)? = Route(head.method, HTTPRequest(method: .PUT, uri: head.uri).path) else {
            return nil
        }
        return { request, responder in
            if let problem = strangeness(request) ?? streamRefusal(request) {
                responder.respond(problem)
                return NoSink()
            }
            return context.images.take(name, request, responder) { name throws(FunctionsError) in
                guard let function = context.catalog[name] else { throw .notFound(name) }
                return FunctionView(function, context)
            }
        }
    }

    private func streamRefusal(_ request: HTTPRequest) -> HTTPResponse? {
        access?.streamRefusal(request).map { $0.response(path: request.path, mode: access?.mode ?? .any) }
    }

    private func elsewhere(_ request: HTTPRequest) -> HTTPResponse {
        let place = context.settings.read { doors == .metrics ? $0.http.listen : $0.metrics.listen ?? "" }
        return .problem(.notFound, "NotFound", "\(request.path) is not served here but at \(place)")
    }

    private func strangeness(_ request: HTTPRequest) -> HTTPResponse? {
        guard isForBrowsers else { return nil }
        return
            BrowserGuard.problem(
                request.headers,
                hosts: context.settings.read { $0.http.hosts },
                isAllowed: UrlDoor(context: context).allowsOrigin(request)
            )
            .map { .problem(.forbidden, "ForeignOrigin", $0) }
    }

    /// Who may make a request.
    private enum Rule {
        case open
        case closed(String)
        case guarded(Authenticator, signedOnly: Bool)
    }

    private func rule(_ request: HTTPRequest) -> Rule {
        if Route.isOpen(request.path) { return .open }
        // What a function says of its own address comes before what the daemon says of all.
        let door = UrlDoor(context: context)
        guard let url = door.record(request), isForBrowsers else {
            return access.map { .guarded($0, signedOnly: false) } ?? .open
        }
        // A browser asks without credentials whether it may ask with them.
        if UrlCORS(url, request.headers)?.preflight(request) != nil { return .open }
        if let problem = LambdaUrls.problem(url.access, context.settings.read { $0.auth }) {
            return .closed(problem)
        }
        guard url.access == .signed else { return .open }
        return access.map { .guarded($0, signedOnly: true) } ?? .closed("there are no keys (auth.mode in fn.yaml)")
    }

    /// As Lambda's function URLs refuse.
    private static func forbidden(_ why: String) -> HTTPResponse {
        HTTPResponse(.forbidden, text: JSONText.encode(["Message": "Forbidden: \(why)"]))
    }

    private func admit(
        _ request: HTTPRequest,
        _ responder: HTTPResponder,
        _ access: Authenticator,
        signedOnly: Bool
    ) {
        @Sendable func go(_ refusal: AccessRefusal?) {
            guard let refusal else { return route(request, responder) }
            responder.respond(
                signedOnly
                    ? Self.forbidden(refusal.plainMessage(access.mode))
                    : refusal.response(path: request.path, mode: access.mode)
            )
        }
        // Hashing megabytes would hold up the other connections of this loop.
        guard request.body.readableBytes > Self.hashedOnLoop else {
            return go(access.refusal(request, signedOnly: signedOnly))
        }
        context.workers.submit { _ in
            let refusal = access.refusal(request, signedOnly: signedOnly)
            responder.eventLoop.execute { go(refusal) }
        }
    }

    private static let hashedOnLoop = 128 << 10

    private func route(_ request: HTTPRequest, _ responder: HTTPResponder) {
        // Only who is let in is told what is where.
        guard doors.open(request.path) else { return responder.respond(elsewhere(request)) }
        guard let route = Route(request.method, request.path) else {
            return responder.respond(Self.unrouted(request))
        }
        Failpoint.pass("request")
        switch route {
        case .invoke(let name): PlainDoor(context: context).invoke(name, request, responder)
        case .url(let name, let path): UrlDoor(context: context).invoke(name, path, request, responder)
        case .lambdaInvoke(let name): LambdaInvoke(context: context).invoke(name, request, responder)
        case .lambdaInvokeAsync(let name): LambdaInvoke(context: context).invokeAsync(name, request, responder)
        case .lambdaInvokeStream(let name): LambdaInvoke(context: context).invokeStream(name, request, responder)
        case .page(let name):
            let isOn = context.settings.read { $0.web.enabled }
            let page = isOn ? WebPage.find(name) : nil
            responder.respond(
                page ?? .problem(.notFound, "NotFound", "the page is switched off (web.enabled in fn.yaml)")
            )
        case .specification: responder.respond(WebPage.specification)
        case .health: responder.respond(HTTPResponse(.ok, text: "ok\n", type: "text/plain"))
        case .followLogs(let name) where request.query("follow") == "true":
            LogStream(context: context).follow(name, request, responder)
        case .events: EventStream(context: context).follow(responder)
        default:
            context.workers.submit { _ in responder.respond(ControlPlane(context: context).answer(route, request)) }
        }
    }

    private static func unrouted(_ request: HTTPRequest) -> HTTPResponse {
        let allowed = Route.methods(request.path)
        guard !allowed.isEmpty else {
            if Route.isLambda(request.path) {
                let what = "no such operation: \(request.method) \(request.path)"
                return LambdaError(.notFound, "UnknownOperationException", what).response
            }
            return .problem(.notFound, "NotFound", "no such path: \(request.method) \(request.path)")
        }
        let list = allowed.map(\.rawValue).joined(separator: ", ")
        return .problem(
            .methodNotAllowed,
            "MethodNotAllowed",
            "\(request.path) takes \(list), not \(request.method)",
            headers: ["Allow": list]
        )
    }

    /// The largest body of a request with this head, in bytes: none from somebody who is not let in anyway.
    package func bodyLimit(_ head: HTTPRequestHead) -> Int {
        let limits = context.settings.read { $0.limits }
        guard refusal(head) == nil else { return 0 }
        switch Route(head.method, HTTPRequest(method: head.method, uri: head.uri).path) {
        case .invoke, .url, .lambdaInvoke, .lambdaInvokeAsync, .lambdaInvokeStream: return Int(limits.payload.count)
        // Base64 makes code a third larger, and it travels inside JSON.
        case .deploy, .lambda(.createFunction, _), .lambda(.updateCode, _), .lambda(.publishLayer, _):
            return Int(limits.code.count) / 3 * 4 + (1 << 20)
        default: return 1 << 20
        }
    }

    /// The answer to a body over its limit: in the words of the door that was knocked at.
    package func tooLarge(_ head: HTTPRequestHead, _ limit: Int) -> HTTPResponse {
        let path = HTTPRequest(method: head.method, uri: head.uri).path
        if let access, let refusal = refusal(head) { return refusal.response(path: path, mode: access.mode) }
        switch Route(head.method, path) {
        case .lambda:
            return LambdaError(
                .payloadTooLarge,
                "RequestEntityTooLargeException",
                "Request must be smaller than \(limit) bytes"
            )
            .response
        case .lambdaInvoke, .lambdaInvokeAsync, .lambdaInvokeStream:
            return LambdaError(
                .payloadTooLarge,
                "RequestTooLargeException",
                "Request must be smaller than \(limit) bytes for the InvokeFunction operation"
            )
            .response
        default:
            return .problem(
                .payloadTooLarge,
                "PayloadTooLarge",
                "the request's body is larger than \(Bytes(Int64(limit)))"
            )
        }
    }

    private func refusal(_ head: HTTPRequestHead) -> AccessRefusal? {
        guard access != nil else { return nil }
        let request = HTTPRequest(method: head.method, uri: head.uri, headers: head.headers)
        guard case .guarded(let access, _) = rule(request) else { return nil }
        return access.headRefusal(request)
    }
}

extension HTTPResponse {
    /// A failure in our own words.
    static func problem(
        _ status: HTTPResponseStatus,
        _ code: String,
        _ message: String,
        headers: HTTPHeaders = [:]
    ) -> HTTPResponse {
        HTTPResponse(status, text: JSONText.encode(ErrorBody(code: code, message: message)), headers: headers)
    }

    static func json(_ status: HTTPResponseStatus = .ok, _ value: some Encodable) -> HTTPResponse {
        HTTPResponse(status, text: JSONText.encode(value))
    }
}
