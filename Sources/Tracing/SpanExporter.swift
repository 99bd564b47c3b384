// SPDX-License-Identifier: Apache-2.0
import Collections
import FoundationEssentials
import HTTP
import Linux
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Settings
import Synchronization

/// Sends spans to a collector, beside everything else: adding one never waits, and what the collector does not take in
/// time is dropped and counted.
///
/// One batch is under way at a time. What may go well later (no connection, no answer, 429, 502, 503, 504) is tried
/// again, after a second, then two, up to thirty or what `Retry-After` says; a batch that went wrong six times is dropped.
package final class SpanExporter: Sendable {
    /// What has become of spans so far.
    package struct Counts: Sendable {
        package var exported: Int64 = 0
        /// By why.
        package var dropped: [Drop: Int64] = [:]
        /// Attempts that went wrong.
        package var failures: Int64 = 0
    }

    package enum Drop: String, Sendable, CaseIterable {
        /// More came than the collector took.
        case full = "queue_full"
        /// The collector would not have them, whenever they come.
        case refused
        /// It could not be reached, or would not have them now, as often as was tried.
        case unreachable
        /// Tracing was switched off, or the daemon ended before they were sent.
        case stopped
    }

    fileprivate struct Batch {
        var body: ByteBuffer
        var count: Int
        var failures = 0
    }

    fileprivate struct State {
        var settings = Settings.Tracing()
        var queue = Deque<Span>()
        /// What is under way or waits to be tried again.
        var batch: Batch?
        /// Whether somebody makes, sends or will send a batch again.
        var isBusy = false
        /// Whether the batch is under way.
        var isPosting = false
        var retry: Scheduled<Void>?
        var isStopping = false
        var counts = Counts()
        /// What went wrong last, so that it is told once and not at each attempt.
        var complaint: String?
        var tls: NIOSSLContext?
    }

    /// How many spans wait at most: a few megabytes.
    private static let most = 8192
    private static let batch = 512
    private static let attempts = 6
    private static let longestPause = 30
    /// What one attempt may take.
    private static let timeout = TimeAmount.seconds(10)

    private let workers: NIOThreadPool
    private let group: any EventLoopGroup
    private let resource: [(String, String)]
    private let version: String
    private let log: Logger
    private let state = Mutex(State())
    private let unit: TimeAmount

    /// - Parameters:
    ///   - workers: threads on which spans are written down.
    ///   - resource: attributes of what sends them, such as `service.name`.
    ///   - unit: the first pause between attempts, and how long spans are gathered: a second but in tests.
    package init(
        workers: NIOThreadPool,
        group: any EventLoopGroup,
        resource: [(String, String)],
        version: String,
        log: Logger,
        unit: TimeAmount = .seconds(1)
    ) {
        (self.workers, self.group, self.resource, self.version) = (workers, group, resource, version)
        (self.log, self.unit) = (log, unit)
    }

    package var counts: Counts { state.withLock { $0.counts } }

    /// Whether there is a collector.
    package var isOn: Bool { state.withLock { $0.settings.collector != nil } }

    /// Puts settings in force; without a collector, what waits is dropped.
    func configure(_ settings: Settings.Tracing) {
        state.withLock { state in
            state.settings = settings
            guard settings.collector == nil else { return }
            state.drop(.stopped, state.queue.count)
            state.queue.removeAll()
        }
    }

    /// Takes the spans of one trace.
    package func add(_ spans: [Span]) {
        let isTime = state.withLock { state in
            guard state.settings.collector != nil, !state.isStopping else { return false }
            guard state.queue.count + spans.count <= Self.most else {
                state.drop(.full, spans.count)
                return false
            }
            let wasEmpty = state.queue.isEmpty
            state.queue.append(contentsOf: spans)
            guard !state.isBusy else { return false }
            // The first begins to gather, the last of a batch ends it.
            if state.queue.count >= Self.batch { return true }
            if wasEmpty { state.retry = later(unit) }
            return false
        }
        if isTime { wake() }
    }

    private func later(_ pause: TimeAmount) -> Scheduled<Void> {
        group.next().scheduleTask(in: pause) { [self] in wake() }
    }

    private func wake() { workers.submit { [self] _ in send() } }

    /// Sends what is due, if nobody else does; on a worker.
    private func send() {
        let (spans, settings) = state.withLock { state -> ([Span], Settings.Tracing) in
            guard !state.isBusy, state.batch == nil, !state.queue.isEmpty else { return ([], state.settings) }
            state.isBusy = true
            let spans = Array(state.queue.prefix(Self.batch))
            state.queue.removeFirst(spans.count)
            return (spans, state.settings)
        }
        guard !spans.isEmpty else { return }
        let offset = WallClock.nowNs() - MonotonicClock.now()
        let document = OTLPDocument(spans, resource: resource, version: version, offset: offset)
        let batch = Batch(body: ByteBuffer(bytes: document.bytes), count: spans.count)
        state.withLock { $0.batch = batch }
        post(batch, settings)
    }

    private func sendAgain() {
        let (batch, settings) = state.withLock { ($0.batch, $0.settings) }
        if let batch { post(batch, settings) }
    }

    private enum Outcome {
        case taken(rejected: Int, why: String)
        case later(why: String, pause: TimeAmount?)
        case never(why: String)
    }

    private func post(_ batch: Batch, _ settings: Settings.Tracing) {
        state.withLock { $0.isPosting = true }
        guard let collector = settings.collector else { return done(batch, .never(why: "tracing was switched off")) }
        var headers: HTTPHeaders = ["Host": collector.authority, "User-Agent": "ebb/\(version)"]
        var tls: NIOSSLContext?
        do {
            if let file = settings.headersFile {
                headers.add(contentsOf: try CollectorHeaders(PrivateFile.read(file)).fields)
            }
            if collector.isSecure { tls = try context() }
        } catch {
            let place = (settings.headersFile).map { "tracing.headers: \($0) " } ?? ""
            return done(batch, .later(why: "\(place)\(error)", pause: nil))
        }
        headers.replaceOrAdd(name: "Content-Type", value: "application/json")
        HTTPPost.exchange(
            to: collector.host,
            port: collector.port,
            path: collector.path,
            headers: headers,
            body: batch.body,
            timeout: Self.timeout,
            tls: tls,
            on: group
        )
        .whenComplete { [self] result in
            switch result {
            case .success(let answer): done(batch, Self.outcome(answer, collector))
            case .failure(let error): done(batch, .later(why: "\(collector.authority): \(error)", pause: nil))
            }
        }
    }

    /// Made once: it reads all of the system's certificates.
    private func context() throws -> NIOSSLContext {
        if let made = state.withLock({ $0.tls }) { return made }
        let made = try NIOSSLContext(configuration: .makeClientConfiguration())
        state.withLock { $0.tls = made }
        return made
    }

    private static func outcome(_ answer: HTTPPost.Answer, _ collector: Collector) -> Outcome {
        let (status, why) = (answer.head.status.code, "\(collector.authority) answered \(answer.head.status.code)")
        switch status {
        case 200..<300:
            let partial = try? JSONDecoder().decode(PartialSuccess.self, from: Data(answer.body.readableBytesView))
            return .taken(rejected: partial?.rejected ?? 0, why: partial?.partialSuccess?.errorMessage ?? "")
        case 429, 502, 503, 504:
            let pause = answer.head.headers.first(name: "Retry-After").flatMap { Int64($0) }
            return .later(why: why, pause: pause.map { .seconds(max(0, min($0, Int64(longestPause)))) })
        default: return .never(why: why)
        }
    }

    private func done(_ batch: Batch, _ outcome: Outcome) {
        let (next, complaint) = state.withLock { state -> (Next, String?) in
            state.isPosting = false
            switch outcome {
            case .taken(let rejected, let why):
                state.counts.exported += Int64(batch.count - min(rejected, batch.count))
                if rejected > 0 { state.drop(.refused, min(rejected, batch.count)) }
                return (state.endBatch(), state.tell(rejected > 0 ? "the collector rejected spans: \(why)" : nil))
            case .never(let why):
                state.counts.failures += 1
                state.drop(state.settings.collector == nil ? .stopped : .refused, batch.count)
                return (state.endBatch(), state.tell(why))
            case .later(let why, let pause):
                state.counts.failures += 1
                state.batch?.failures += 1
                let failures = state.batch?.failures ?? Self.attempts
                guard failures < Self.attempts, !state.isStopping || failures < 2 else {
                    state.drop(state.isStopping ? .stopped : .unreachable, batch.count)
                    return (state.endBatch(), state.tell(why))
                }
                let wait = pause ?? Self.pause(after: failures, unit)
                if !state.isStopping { state.retry = again(wait) }
                return (state.isStopping ? .again : .nothing, state.tell(why))
            }
        }
        if let complaint {
            let isWell = complaint.isEmpty
            log.log(level: isWell ? .notice : .warning, "\(isWell ? "traces are taken again" : "traces: \(complaint)")")
        }
        switch next {
        case .nothing: break
        case .more: wake()
        case .again: workers.submit { [self] _ in sendAgain() }
        }
    }

    private func again(_ pause: TimeAmount) -> Scheduled<Void> {
        group.next().scheduleTask(in: pause) { [self] in workers.submit { [self] _ in sendAgain() } }
    }

    /// With up to a fifth more, so that many daemons do not come back at once.
    private static func pause(after failures: Int, _ unit: TimeAmount) -> TimeAmount {
        let pause = min(unit.nanoseconds << Int64(failures - 1), unit.nanoseconds * Int64(longestPause))
        return .nanoseconds(pause + .random(in: 0...max(1, pause / 5)))
    }

    fileprivate enum Next {
        case nothing
        case more
        case again
    }

    /// Takes nothing more, sends what waits, and returns when that is done or `patience` is over; blocking. What cannot
    /// be sent then is dropped.
    package func stop(within patience: Duration) {
        let retry = state.withLock { state in
            state.isStopping = true
            return state.retry
        }
        retry?.cancel()
        // A batch that waited to be tried again is tried now; one that is under way goes on by itself.
        if state.withLock({ $0.batch != nil && !$0.isPosting && $0.isBusy && $0.batch?.failures != 0 }) {
            workers.submit { [self] _ in sendAgain() }
        } else {
            wake()
        }
        let deadline = MonotonicClock.now() + Int64(patience.components.seconds) * 1_000_000_000
        while MonotonicClock.now() < deadline, state.withLock({ $0.isBusy || !$0.queue.isEmpty }) {
            KernelSleep.milliseconds(5)
        }
        let lost = state.withLock { state in
            let lost = state.queue.count + (state.batch?.count ?? 0)
            state.drop(.stopped, lost)
            state.queue.removeAll()
            state.settings.collector = nil
            return state.counts.dropped[.stopped] ?? 0
        }
        if lost > 0 { log.warning("traces: \(lost) spans could not be sent before the end") }
    }

    /// What a collector answers that took some of them.
    private struct PartialSuccess: Decodable {
        struct Body: Decodable {
            /// An `int64` is a string in protobuf's JSON; some write a number.
            enum Count: Decodable {
                case of(Int)
                init(from decoder: any Decoder) throws {
                    let value = try decoder.singleValueContainer()
                    let text = try? value.decode(String.self)
                    self = .of(try text.flatMap { Int($0) } ?? value.decode(Int.self))
                }
            }
            var rejectedSpans: Count?
            var errorMessage: String?
        }
        var partialSuccess: Body?
        var rejected: Int {
            if case .of(let count) = partialSuccess?.rejectedSpans { max(0, count) } else { 0 }
        }
    }
}

extension SpanExporter.State {
    fileprivate mutating func drop(_ why: SpanExporter.Drop, _ count: Int) {
        if count > 0 { counts.dropped[why, default: 0] += Int64(count) }
    }

    fileprivate mutating func endBatch() -> SpanExporter.Next {
        (batch, isBusy, retry) = (nil, false, nil)
        return queue.isEmpty ? .nothing : .more
    }

    /// What is worth a line in the log: something else than last time, or, as an empty text, that all is well again.
    fileprivate mutating func tell(_ problem: String?) -> String? {
        guard problem != complaint else { return nil }
        defer { complaint = problem }
        return problem ?? ""
    }
}
