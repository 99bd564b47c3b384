// SPDX-License-Identifier: Apache-2.0
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
    package var doctor: @Sendable () -> DoctorReport
    package var limitsEnforced: Bool
    /// Threads for what may block: the control plane.
    package var workers: NIOThreadPool

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
        doctor: @escaping @Sendable () -> DoctorReport,
        limitsEnforced: Bool,
        workers: NIOThreadPool
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
        self.doctor = doctor
        self.limitsEnforced = limitsEnforced
        self.workers = workers
    }
}

/// The doors: Lambda's API, the plain `/invoke`, and `/v1`.
///
/// Invocations stay on the event loop. Everything else is the control plane: it may touch the disk and runs on workers.
package struct Gateway: Sendable {
    let context: GatewayContext
    private let isForBrowsers: Bool

    /// - Parameter isForBrowsers: whether browsers can reach this door, as they can any port and no Unix socket.
    package init(_ context: GatewayContext, isForBrowsers: Bool) {
        self.context = context
        self.isForBrowsers = isForBrowsers
    }

    /// What the HTTP servers call for each request.
    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        if isForBrowsers,
            let problem = BrowserGuard.problem(request.headers, hosts: context.settings.current.settings.http.hosts)
        {
            return responder.respond(.problem(.forbidden, "ForeignOrigin", problem))
        }
        guard let route = Route(request.method, request.path) else {
            return responder.respond(.problem(.notFound, "NotFound", "no such path: \(request.method) \(request.path)"))
        }
        switch route {
        case .invoke(let name): PlainDoor(context: context).invoke(name, request, responder)
        case .lambdaInvoke(let name): LambdaInvoke(context: context).invoke(name, request, responder)
        case .lambdaInvokeAsync(let name): LambdaInvoke(context: context).invokeAsync(name, request, responder)
        case .lambdaInvokeStream(let name): LambdaInvoke(context: context).invokeStream(name, request, responder)
        case .page(let name):
            let isOn = context.settings.current.settings.web.enabled
            let page = isOn ? WebPage.find(name) : nil
            responder.respond(
                page ?? .problem(.notFound, "NotFound", "the page is switched off (web.enabled in fn.yaml)")
            )
        case .health: responder.respond(HTTPResponse(.ok, text: "ok\n", type: "text/plain"))
        case .followLogs(let name) where request.query("follow") == "true":
            LogStream(context: context).follow(name, request, responder)
        case .events: EventStream(context: context).follow(responder)
        default:
            context.workers.submit { _ in responder.respond(ControlPlane(context: context).answer(route, request)) }
        }
    }

    /// The largest body of a request with this head, in bytes.
    package static func bodyLimit(_ head: HTTPRequestHead, _ settings: Settings) -> Int {
        switch Route(head.method, HTTPRequest(method: head.method, uri: head.uri).path) {
        case .invoke, .lambdaInvoke, .lambdaInvokeAsync, .lambdaInvokeStream: Int(settings.limits.payload.count)
        // Base64 makes code a third larger, and it travels inside JSON.
        case .deploy, .lambda(.createFunction, _), .lambda(.updateCode, _), .lambda(.publishLayer, _):
            Int(settings.limits.code.count) / 3 * 4 + (1 << 20)
        default: 1 << 20
        }
    }

    /// The answer to a body over its limit: in the words of the door that was knocked at.
    package static func tooLarge(_ head: HTTPRequestHead, _ limit: Int) -> HTTPResponse {
        switch Route(head.method, HTTPRequest(method: head.method, uri: head.uri).path) {
        case .lambdaInvoke, .lambdaInvokeAsync, .lambdaInvokeStream, .lambda:
            LambdaError(
                .payloadTooLarge,
                "RequestTooLargeException",
                "Request must be smaller than \(limit) bytes for the InvokeFunction operation"
            )
            .response
        default:
            .problem(.payloadTooLarge, "PayloadTooLarge", "the request's body is larger than \(Bytes(Int64(limit)))")
        }
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
