// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Functions
import HTTP
import NIOCore
import NIOHTTP1
import NIOPosix
import Settings
import Synchronization
import Units

/// `PUT /v1/functions/NAME/image`: the body is an image, written to disk as it comes, then unpacked and deployed.
package final class ImageIntake: Sendable {
    /// Uploads at once; each may be gigabytes on disk.
    static let mostAtOnce = 4

    private let deployments: Deployments
    private let settings: SettingsSource
    /// Threads for the writing, and for the unpacking, which may take minutes: nobody else waits for those.
    private let workers: NIOThreadPool
    private let importers: NIOThreadPool
    private let running = Mutex(0)

    package init(
        deployments: Deployments,
        settings: SettingsSource,
        workers: NIOThreadPool,
        importers: NIOThreadPool
    ) {
        (self.deployments, self.settings, self.workers, self.importers) = (deployments, settings, workers, importers)
    }

    /// Takes an upload; what is wrong with the request is answered at once.
    ///
    /// - Parameter view: what a deployed function is answered with.
    func take(
        _ name: String,
        _ request: HTTPRequest,
        _ responder: HTTPResponder,
        view: @escaping @Sendable (_ name: String) throws(FunctionsError) -> FunctionView
    ) -> any HTTPBodySink {
        let current = settings.current.settings
        do throws(FunctionsError) {
            let deployment = try ImageDeployment(name, request)
            let limit = current.limits.image
            let announced = request.headers.first(name: "Content-Length").flatMap { Int64($0) } ?? 0
            guard announced <= limit.count else { throw .imageTooLarge(limit: limit) }
            guard enter() else {
                responder.respond(
                    .problem(
                        .tooManyRequests,
                        "Throttled",
                        "\(Self.mostAtOnce) images are being uploaded: try later",
                        headers: ["Retry-After": "5"]
                    )
                )
                return NoSink()
            }
            return try start(deployment, limit, current.http.readTimeout, responder, view)
        } catch {
            responder.respond(.problem(error.status, error.code, error.description))
            return NoSink()
        }
    }

    private func enter() -> Bool {
        running.withLock { running in
            guard running < Self.mostAtOnce else { return false }
            running += 1
            return true
        }
    }

    private func start(
        _ deployment: ImageDeployment,
        _ limit: Bytes,
        _ patience: Duration,
        _ responder: HTTPResponder,
        _ view: @escaping @Sendable (_ name: String) throws(FunctionsError) -> FunctionView
    ) throws(FunctionsError) -> any HTTPBodySink {
        let staged: StagedImage
        do throws(FunctionsError) {
            staged = try deployments.stageImage()
        } catch {
            running.withLock { $0 -= 1 }
            throw error
        }
        let upload = ImageUpload(staged, limit: limit, workers: workers, responder: responder) { [self] result in
            switch result {
            case .failure(let error):
                running.withLock { $0 -= 1 }
                if let error { responder.respond(.problem(error.status, error.code, error.description)) }
            case .success(let staged):
                importers.submit { [self] _ in
                    let answer = finish(deployment, staged, view)
                    running.withLock { $0 -= 1 }
                    responder.respond(answer)
                }
            }
        }
        upload.watch(.milliseconds(patience.milliseconds))
        return upload
    }

    private func finish(
        _ deployment: ImageDeployment,
        _ staged: StagedImage,
        _ view: (_ name: String) throws(FunctionsError) -> FunctionView
    ) -> HTTPResponse {
        // Not when the last who knows of it lets go: threads keep their last piece of work until the next.
        defer { staged.remove() }
        do throws(FunctionsError) {
            let (record, created, changed) = try deployments.deploy(deployment, staged)
            let result = DeployResult(
                function: try view(record.spec.name),
                created: created,
                codeChanged: changed,
                warning: deployments.overcommitment
            )
            return .json(created ? .created : .ok, result)
        } catch {
            return .problem(error.status, error.code, error.description)
        }
    }
}

/// Takes a body that is of no use any more.
struct NoSink: HTTPBodySink {
    func receive(_ part: ByteBuffer) -> EventLoopFuture<Void>? { nil }
    func end(_ trailers: HTTPHeaders) {}
    func broke() {}
}

/// One upload on its way to disk. The connection reads on only as what it gave has been written.
private final class ImageUpload: HTTPBodySink {
    private struct State {
        var staged: StagedImage?
        var offset: Int64 = 0
        var outstanding = 0
        var hasEnded = false
        /// Where it was when somebody last looked whether it goes on.
        var seen: Int64 = -1
    }

    private let state: Mutex<State>
    private let limit: Bytes
    private let workers: NIOThreadPool
    private let responder: HTTPResponder
    /// Called once: with what was uploaded, or why it was not; with no reason when the peer has gone.
    private let completion: @Sendable (Outcome) -> Void

    enum Outcome: Sendable {
        case success(StagedImage)
        case failure(FunctionsError?)
    }

    init(
        _ staged: StagedImage,
        limit: Bytes,
        workers: NIOThreadPool,
        responder: HTTPResponder,
        completion: @escaping @Sendable (Outcome) -> Void
    ) {
        state = Mutex(State(staged: staged))
        (self.limit, self.workers, self.responder, self.completion) = (limit, workers, responder, completion)
    }

    func receive(_ part: ByteBuffer) -> EventLoopFuture<Void>? {
        let place = state.withLock { state -> (staged: StagedImage, offset: Int64)? in
            guard let staged = state.staged else { return nil }
            defer {
                state.offset += Int64(part.readableBytes)
                state.outstanding += 1
            }
            return (staged, state.offset)
        }
        guard let place else { return nil }
        guard place.offset + Int64(part.readableBytes) <= limit.count else {
            giveUp(.imageTooLarge(limit: limit))
            return nil
        }
        let written = workers.runIfActive(eventLoop: responder.eventLoop) {
            try place.staged.write(part.readableBytesView, at: place.offset)
        }
        written.whenComplete { [self] result in
            let isWhole = state.withLock { state in
                state.outstanding -= 1
                return state.hasEnded && state.outstanding == 0
            }
            switch result {
            case .failure(let error): giveUp(error as? FunctionsError ?? .storage("\(error)"))
            case .success where isWhole: complete()
            case .success: break
            }
        }
        return written
    }

    func end(_ trailers: HTTPHeaders) {
        let isWhole = state.withLock { state in
            state.hasEnded = true
            return state.outstanding == 0
        }
        if isWhole { complete() }
    }

    func broke() { giveUp(nil) }

    private func complete() {
        if let staged = take() { completion(.success(staged)) }
    }

    private func giveUp(_ reason: FunctionsError?) {
        guard let staged = take() else { return }
        workers.submit { _ in staged.remove() }
        completion(.failure(reason))
    }

    private func take() -> StagedImage? { state.withLock { $0.staged.take() } }

    /// Gives an upload up in which nothing has moved for `patience`.
    func watch(_ patience: TimeAmount) {
        responder.eventLoop.scheduleTask(in: patience) { [weak self] in self?.look(patience) }
    }

    private func look(_ patience: TimeAmount) {
        let isStalled = state.withLock { state -> Bool? in
            guard state.staged != nil, !state.hasEnded else { return nil }
            defer { state.seen = state.offset }
            return state.seen == state.offset && state.outstanding == 0
        }
        switch isStalled {
        case nil: break
        case false?: watch(patience)
        case true?: giveUp(.invalid("the upload has stopped halfway"))
        }
    }
}

extension ImageDeployment {
    /// What the query says of a function, member by member as in `Update`.
    fileprivate init(_ name: String, _ request: HTTPRequest) throws(FunctionsError) {
        try FunctionSpec.checkName(name)
        func number(_ member: String) throws(FunctionsError) -> Int64? {
            guard let text = request.query(member) else { return nil }
            guard let value = Int64(text) else { throw .invalid("\(member): expected a whole number, got '\(text)'") }
            return value
        }
        func count(_ member: String) throws(FunctionsError) -> Int? {
            guard let value = try number(member) else { return nil }
            guard let count = Int(exactly: value) else { throw .invalid("\(member): \(value) is too large") }
            return count
        }
        var update = UpdateRequest()
        update.memory = try number("memory")
        update.memoryBurst = try number("memoryBurst")
        update.cpus = try count("cpus")
        update.timeoutMs = try count("timeoutMs")
        update.tmp = try number("tmp")
        update.concurrency = try count("concurrency")
        update.minWarm = try count("minWarm")
        update.perSandbox = try count("perSandbox")
        update.network = try request.query("network")
            .map { text throws(FunctionsError) in
                guard let network = NetworkAccess(rawValue: text) else {
                    throw .invalid("network: expected none or egress, got '\(text)'")
                }
                return network
            }
        update.description = request.query("description")
        var variables: [String: String] = [:]
        for pair in request.queries("env") {
            guard let sign = pair.firstIndex(of: "="), sign != pair.startIndex else {
                throw .invalid("env: expected NAME=VALUE, got '\(pair)'")
            }
            variables[String(pair[..<sign])] = String(pair[pair.index(after: sign)...])
        }
        let limits = update
        let env = variables
        self.init(name: name) { spec in
            // Variables are added to those that the function has.
            limits.apply(to: &spec)
            spec.env.merge(env) { $1 }
        }
        port = try count("port")
        entrypoint = request.queries("entrypoint")
        command = request.queries("command")
    }
}
