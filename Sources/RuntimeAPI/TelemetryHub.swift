// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOCore
import Synchronization

/// How something inside a sandbox is reached: a port of its loopback, in its own network namespace.
///
/// Calls back once, on any thread, with a connected, non-blocking socket that is the callee's; must not block.
package typealias SandboxConnector =
    @Sendable (_ port: UInt16, _ body: @escaping @Sendable (Result<CInt, any Error>) -> Void) -> Void

/// The Telemetry API of one sandbox, from the side that sends: takes what happens, and gives it to who subscribed.
///
/// Subscriptions are taken while the sandbox starts. What happens before the first of them is kept, bounded, so that
/// everybody gets the start too; once the start is over and nobody has subscribed, nothing is made or kept.
package final class TelemetryHub: Sendable {
    private struct State {
        var isOpen = true
        var isClosed = false
        var runtimeIsDone = false
        var early: [(type: TelemetryType, record: ByteBuffer)] = []
        var earlyBytes = 0
        var subscribers: [String: TelemetrySubscriber] = [:]
        /// The way into the sandbox, until it is closed: whoever keeps the hub keeps none of the sandbox.
        var way: Way?

        var isIdle: Bool { isClosed || !isOpen && subscribers.isEmpty }
    }

    private struct Way {
        var connect: SandboxConnector
        var isAsleep: @Sendable () -> Bool
    }

    /// More than this of a start is not kept for those who subscribe late in it, in bytes.
    private static let earlyLimit = 256 << 10

    private let assigned: Mutex<FunctionIdentity>
    private let instance: String
    private let loop: any EventLoop
    private let now: @Sendable () -> String
    private let state: Mutex<State>

    /// - Parameters:
    ///   - instance: the sandbox's name.
    ///   - loop: where its connections and timers live.
    ///   - isAsleep: whether the sandbox is frozen: nobody in it can answer then, and no time is counted.
    ///   - now: ISO 8601 with milliseconds.
    package init(
        _ identity: FunctionIdentity,
        instance: String,
        loop: any EventLoop,
        connect: @escaping SandboxConnector,
        isAsleep: @escaping @Sendable () -> Bool,
        now: @escaping @Sendable () -> String
    ) {
        assigned = Mutex(identity)
        self.instance = instance
        self.loop = loop
        self.now = now
        state = Mutex(State(way: Way(connect: connect, isAsleep: isAsleep)))
    }

    private var identity: FunctionIdentity { assigned.withLock { $0 } }

    /// It was prewarmed, and is a function's from now on.
    package func become(_ identity: FunctionIdentity) { assigned.withLock { $0 = identity } }

    // MARK: What happens

    package func started(memory: Int64) {
        emit("platform.initStart") {
            PlatformRecord.InitStart(
                initializationType: identity.initialization,
                runtimeVersion: identity.runtime,
                functionName: identity.name,
                functionVersion: identity.version,
                instanceId: instance,
                instanceMaxMemory: memory
            )
        }
    }

    /// The runtime has asked for its first work, or told that it could not start; later calls do nothing.
    package func runtimeStarted(errorType: String? = nil) {
        let isFirst = state.withLock { state in
            defer { state.runtimeIsDone = true }
            return !state.runtimeIsDone && !state.isClosed
        }
        guard isFirst else { return }
        emit("platform.initRuntimeDone") {
            PlatformRecord.InitRuntimeDone(
                initializationType: identity.initialization,
                status: errorType == nil ? .success : .error,
                errorType: errorType
            )
        }
    }

    /// The start is over: nobody can subscribe any more.
    package func initEnded(durationMs: Double, extensions: [ExtensionSummary]) {
        for summary in extensions {
            emit("platform.extension") {
                PlatformRecord.Extension(name: summary.name, state: summary.state, events: summary.events)
            }
        }
        emit("platform.initReport") {
            PlatformRecord.InitReport(
                initializationType: identity.initialization,
                metrics: PlatformRecord.InitReport.Metrics(durationMs: durationMs)
            )
        }
        state.withLock { state in
            state.isOpen = false
            state.early = []
        }
    }

    package func invoked(_ requestID: String, traceID: String?) {
        emit("platform.start") {
            PlatformRecord.Start(
                requestId: requestID,
                version: identity.version,
                tracing: traceID.map { PlatformRecord.Tracing($0) }
            )
        }
    }

    package func runtimeDone(
        _ requestID: String,
        _ status: TelemetryStatus,
        errorType: String? = nil,
        durationMs: Double,
        producedBytes: Int? = nil
    ) {
        emit("platform.runtimeDone") {
            PlatformRecord.RuntimeDone(
                requestId: requestID,
                status: status,
                errorType: errorType,
                metrics: PlatformRecord.RuntimeDone.Metrics(durationMs: durationMs, producedBytes: producedBytes)
            )
        }
    }

    package func reported(_ report: @autoclosure () -> PlatformRecord.Report) { emit("platform.report") { report() } }

    /// - Parameter type: who printed it.
    package func printed(_ line: [UInt8], by type: TelemetryType) {
        guard isWanted else { return }
        give(type, PlatformRecord.encode(type, at: now(), line: line, isJSON: identity.logsJSON))
    }

    private var isWanted: Bool { state.withLock { !$0.isIdle } }

    private func emit<Record: Encodable>(_ name: String, _ record: () -> Record) {
        guard isWanted else { return }
        give(.platform, PlatformRecord.encode(name, at: now(), record()))
    }

    /// Under the lock from first to last, so that all subscribers see one order, and no record twice or not at all.
    private func give(_ type: TelemetryType, _ record: ByteBuffer) {
        state.withLock { state in
            guard !state.isClosed else { return }
            if state.isOpen, state.earlyBytes + record.readableBytes <= Self.earlyLimit {
                state.early.append((type, record))
                state.earlyBytes += record.readableBytes
            }
            for subscriber in state.subscribers.values where subscriber.types.contains(type) {
                subscriber.append(record)
            }
        }
    }

    // MARK: Subscribers

    /// - Parameter name: the extension's; its newest subscription is the one that counts.
    func subscribe(_ name: String, _ subscription: TelemetrySubscription) throws(ExtensionRefusal) {
        let destination = subscription.place
        let (now, loop) = (now, loop)
        let types = Set(subscription.types.compactMap { TelemetryType(rawValue: $0) })
        let isTaken = state.withLock { state in
            guard state.isOpen, let way = state.way else { return false }
            let subscriber = TelemetrySubscriber(
                types: types,
                limits: subscription.limits,
                destination: destination,
                loop: loop,
                connect: way.connect,
                isAsleep: way.isAsleep,
                now: now
            )
            for (type, record) in state.early where types.contains(type) { subscriber.append(record) }
            state.subscribers.updateValue(subscriber, forKey: name)?.close()
            return true
        }
        guard isTaken else { throw .telemetryClosed }
        emit("platform.telemetrySubscription") {
            PlatformRecord.Subscription(name: name, types: subscription.types)
        }
    }

    private var subscribers: [TelemetrySubscriber] { state.withLock { Array($0.subscribers.values) } }

    /// Sends what there is, and calls `body` when everybody has it or cannot be reached; at once where there is nobody.
    package func flush(then body: @escaping @Sendable () -> Void = {}) {
        let all = subscribers
        guard !all.isEmpty else { return body() }
        EventLoopFuture.andAllComplete(all.map { $0.flush() }, on: loop).whenComplete { _ in body() }
    }

    /// Nothing is sent from here on.
    package func close() {
        let all = state.withLock { state in
            defer {
                state.isClosed = true
                state.way = nil
                state.early = []
                state.subscribers = [:]
            }
            return Array(state.subscribers.values)
        }
        for subscriber in all { subscriber.close() }
    }
}

/// What is told of an extension when a start is over.
package struct ExtensionSummary: Sendable, Equatable {
    package var name: String
    /// AWS's name of its state: `Ready` where all is well.
    package var state: String
    package var events: [String]
}
