// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Functions
import HTTP
import Linux
import NIOCore
import NIOHTTP1
import Policy
import Pool
import Settings
import Telemetry
import Units

/// `/v1`: what Lambda's API cannot say. Blocking.
struct ControlPlane {
    let context: GatewayContext

    func answer(_ route: Route, _ request: HTTPRequest) -> HTTPResponse {
        do {
            return try answerOrThrow(route, request)
        } catch let error as FunctionsError {
            return .problem(error.status, error.code, error.description + context.hint(error))
        } catch {
            return .problem(.badRequest, "InvalidRequest", "the request's body could not be understood: \(error)")
        }
    }

    private func answerOrThrow(_ route: Route, _ request: HTTPRequest) throws -> HTTPResponse {
        switch route {
        case .lambda(let operation, let name): LambdaControl(context: context).answer(operation, name, request)
        case .deploy: try deploy(request)
        case .functions: .json(.ok, FunctionList(functions: context.catalog.all.map { FunctionView($0, context) }))
        case .function(let name): .json(.ok, try view(name))
        case .updateFunction(let name): try update(name, request)
        case .removeFunction(let name): try remove(name)
        case .followLogs(let name): try logs(name, request)
        case .code(let name): try code(name)
        case .size(let name): .json(.ok, SizeView(try function(name), context.pool.profiles[name]))
        case .sizes: sizes
        case .layerCode(let name, let version): try layerCode(name, version)
        case .sandboxes:
            .json(
                .ok,
                SandboxList(
                    sandboxes: context.sandboxViews,
                    limitsEnforced: context.limitsEnforced
                )
            )
        case .ledger: .json(.ok, context.pool.ledgerView)
        case .decisions: try decisions(request)
        case .metrics: MetricsPage(context: context).response
        case .doctor: .json(.ok, context.doctor())
        case .version: .json(.ok, VersionView(version: Version.current))
        case .config: .json(.ok, ConfigView(context.settings.current))
        case .reloadConfig: reload()
        case .diffConfig: diff(request)
        case .queue: try events(request)
        case .event(let id): try event(id)
        case .retryEvent(let id): try retry(id)
        case .schedules: .json(.ok, ScheduleList(schedules: try context.schedules()))
        case .purgeQueue: try purge(request)
        case .ready: context.readiness.response
        case .invoke, .url, .deployImage, .lambdaInvoke, .lambdaInvokeAsync, .lambdaInvokeStream, .page, .specification,
            .health,
            .events:
            .problem(.internalServerError, "Misrouted", "answered elsewhere")
        }
    }

    private func function(_ name: String) throws(FunctionsError) -> DeployedFunction {
        guard let function = context.catalog[name] else { throw .notFound(name) }
        return function
    }

    private func view(_ name: String) throws(FunctionsError) -> FunctionView {
        FunctionView(try function(name), context)
    }

    private var sizes: HTTPResponse {
        let profiles = context.pool.profiles
        return .json(.ok, SizeList(sizes: context.catalog.all.map { SizeView($0, profiles[$0.name]) }))
    }

    private func deploy(_ request: HTTPRequest) throws -> HTTPResponse {
        let body = try JSONText.decode(DeployRequest.self, from: request.body.readableBytesView)
        guard let archive = Base64.decode(body.code) else { throw FunctionsError.invalid("code is not base64") }
        let deployment = Deployment(name: body.name, runtime: body.runtime, handler: body.handler, archive: archive) {
            spec in
            // Variables of the command line are added to those of function.yaml.
            let env = spec.env.merging(body.limits.env ?? [:]) { _, new in new }
            body.limits.apply(to: &spec)
            spec.env = env
        }
        let (record, created, changed) = try context.deployments.deploy(deployment)
        let result = DeployResult(
            function: try view(record.spec.name),
            created: created,
            codeChanged: changed,
            warning: context.deployments.overcommitment
        )
        return .json(created ? .created : .ok, result)
    }

    private func update(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        let body = try JSONText.decode(UpdateRequest.self, from: request.body.readableBytesView)
        _ = try context.deployments.update(name) { body.apply(to: &$0) }
        return .json(.ok, try view(name))
    }

    private func remove(_ name: String) throws -> HTTPResponse {
        try context.deployments.remove(name)
        return HTTPResponse(.noContent)
    }

    private func logs(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        guard context.catalog[name] != nil else { throw FunctionsError.notFound(name) }
        let choice = FunctionLog.Choice(
            since: try LogStream.since(request),
            request: LogStream.wanted(request),
            tail: try LogStream.tail(request)
        )
        context.pool.settleOutput(of: name)
        let lines = context.log.read(name, choice)
        let text = lines.map { JSONText.encode($0) + "\n" }.joined()
        return HTTPResponse(.ok, text: text, type: "application/x-ndjson")
    }

    private func number<Value: LosslessStringConvertible>(
        _ request: HTTPRequest,
        _ name: String,
        _ fallback: Value
    ) throws(FunctionsError) -> Value {
        guard let text = request.query(name) else { return fallback }
        guard let value = Value(text) else { throw .invalid("\(name): expected a whole number, got '\(text)'") }
        return value
    }

    private func decisions(_ request: HTTPRequest) throws(FunctionsError) -> HTTPResponse {
        let (after, limit) = (try number(request, "after", UInt64(0)), try number(request, "limit", 1000))
        guard limit > 0 else { throw .invalid("limit: expected a whole number from 1, got '\(limit)'") }
        let subject = try word(request, "subject")
        let found = context.decisions.read(subject: subject, after: after, limit: limit)
        return .json(.ok, DecisionList(decisions: found.map { DecisionView($0) }))
    }

    // MARK: The queue

    private func state(_ request: HTTPRequest) throws(FunctionsError) -> QueuedEvent.State? {
        guard let text = request.query("state") else { return nil }
        guard let state = QueuedEvent.State(rawValue: text) else {
            let words = QueuedEvent.State.allCases.map(\.rawValue).joined(separator: ", ")
            throw .invalid("state: expected one of \(words), got '\(text)'")
        }
        return state
    }

    /// A word that a list is narrowed to. An empty one is an error: what it narrows may be a purge.
    private func word(_ request: HTTPRequest, _ name: String) throws(FunctionsError) -> String? {
        guard let text = request.query(name) else { return nil }
        guard !text.isEmpty else { throw .invalid("\(name): expected a name, got ''") }
        return text
    }

    private func events(_ request: HTTPRequest) throws(FunctionsError) -> HTTPResponse {
        let limit = try number(request, "limit", 1000)
        guard limit > 0 else { throw .invalid("limit: expected a whole number from 1, got '\(limit)'") }
        let found = try context.queue.list(
            function: try word(request, "function"),
            state: try state(request),
            limit: limit
        )
        return .json(.ok, EventList(events: found.map { EventView($0, withContents: false) }))
    }

    private func event(_ id: String) throws(FunctionsError) -> HTTPResponse {
        guard let event = try context.queue.get(id) else {
            return .problem(.notFound, "EventNotFound", "no such event: \(id)")
        }
        return .json(.ok, EventView(event, withContents: true))
    }

    private func retry(_ id: String) throws(FunctionsError) -> HTTPResponse {
        guard try context.queue.retry(id, now: WallClock.nowMs()) else {
            guard let event = try context.queue.get(id) else { return try self.event(id) }
            return .problem(
                .conflict,
                "NotFailed",
                "event \(id) is \(event.state.rawValue): only failed ones are retried"
            )
        }
        context.runner.poke()
        return try event(id)
    }

    private func purge(_ request: HTTPRequest) throws(FunctionsError) -> HTTPResponse {
        let (function, state) = (try word(request, "function"), try state(request))
        let count = try context.queue.purge(function: function, state: state)
        return .json(.ok, PurgeResult(removed: count))
    }

    /// The archive that a function, or a version or alias of it, was deployed from, byte for byte.
    private func code(_ name: String) throws -> HTTPResponse {
        let (function, qualifier) = (PlanName.function(name), PlanName.version(name))
        guard let record = try context.deployments.registered(function)?.record(qualifier) else {
            throw FunctionsError.notFound(name)
        }
        guard record.spec.image == nil else {
            throw FunctionsError.invalid("function \(name) is a container image, of which no archive is kept")
        }
        guard let archive = context.deployments.archive(of: record) else { throw FunctionsError.notFound(name) }
        return download(archive)
    }

    private func layerCode(_ name: String, _ version: String) throws -> HTTPResponse {
        guard let number = Int(version), let layer = try context.deployments.layer(name, number),
            let archive = context.deployments.archive(of: layer)
        else {
            return .problem(.notFound, "LayerNotFound", "no such layer: \(name):\(version)")
        }
        return download(archive)
    }

    private func download(_ archive: [UInt8]) -> HTTPResponse {
        HTTPResponse(.ok, headers: ["Content-Type": "application/octet-stream"], body: ByteBuffer(bytes: archive))
    }

    private func reload() -> HTTPResponse {
        switch context.settings.reload() {
        case .accepted(let changes): .json(.ok, ReloadView(changes))
        case .refused(let errors): .json(.unprocessableEntity, ReloadView(errors))
        }
    }

    /// What the file in the body would change; without a body, the daemon's own file.
    private func diff(_ request: HTTPRequest) -> HTTPResponse {
        let text =
            request.body.readableBytes > 0 ? String(decoding: request.body.readableBytesView, as: UTF8.self) : nil
        do throws(SettingsErrors) {
            let name = request.query("file") ?? (text == nil ? context.settings.file : "the file")
            return .json(.ok, ReloadView(try context.settings.changes(by: text, named: name)))
        } catch {
            return .json(.unprocessableEntity, ReloadView(error))
        }
    }
}

extension UpdateRequest {
    func apply(to spec: inout FunctionSpec) {
        spec.memory = memory.map { Bytes($0) } ?? spec.memory
        spec.memoryBurst = memoryBurst.map { Bytes($0) } ?? spec.memoryBurst
        spec.cpus = cpus.map { CPUQuota(millis: $0) } ?? spec.cpus
        spec.timeoutMs = timeoutMs ?? spec.timeoutMs
        spec.tmp = tmp.map { Bytes($0) } ?? spec.tmp
        spec.concurrency = concurrency ?? spec.concurrency
        spec.minWarm = minWarm ?? spec.minWarm
        spec.perSandbox = perSandbox ?? spec.perSandbox
        spec.network = network ?? spec.network
        spec.description = description ?? spec.description
        spec.env = env ?? spec.env
    }
}

extension FunctionsError {
    var status: HTTPResponseStatus {
        switch self {
        case .notFound, .aliasNotFound: .notFound
        case .alreadyExists, .aliasExists, .conflict, .busy: .conflict
        case .revisionMismatch: .preconditionFailed
        case .archiveTooLarge, .imageTooLarge: .payloadTooLarge
        case .queueFull: .tooManyRequests
        case .diskFull, .diskFailed: .serviceUnavailable
        case .storage, .damaged: .internalServerError
        default: .badRequest
        }
    }

    var code: String {
        switch self {
        case .notFound: "FunctionNotFound"
        case .alreadyExists: "FunctionExists"
        case .aliasNotFound: "AliasNotFound"
        case .aliasExists: "AliasExists"
        case .conflict: "Conflict"
        case .busy: "UpdateInProgress"
        case .revisionMismatch: "RevisionMismatch"
        case .archiveTooLarge, .unpackedTooLarge, .combinedTooLarge, .archiveUnreadable, .archiveHostile:
            "InvalidArchive"
        case .imageRefused, .imageTooLarge, .unpackedImageTooLarge: "InvalidImage"
        case .queueFull: "QueueFull"
        case .diskFull: "DiskFull"
        case .diskFailed: "DiskFailed"
        case .storage, .damaged: "Storage"
        case .invalid: "Invalid"
        }
    }
}
