// SPDX-License-Identifier: Apache-2.0

/// The Lambda Runtime API's rules of order, for one sandbox, as a pure state machine.
///
/// States follow AWS's reference implementation: a runtime starts, asks for work, is given one invocation, answers it,
/// and asks again. Where several requests may run at once, so many of its processes or threads do that side by side:
/// which of them asks is not told by the API, so they are counted. `Waiter` is whatever answers a pending `next`; tests
/// use a number, the server an HTTP responder.
package struct RuntimeSession<Waiter: Sendable>: Sendable {
    private enum Life {
        case starting
        /// Has asked to go on after a restore, which here follows the start at once.
        case restored
        case serving
        /// The start failed.
        case failed
        /// An answer ended in the middle: nothing it says from now on can be trusted.
        case broken
    }

    private enum Work {
        case running
        /// Its answer is arriving.
        case streaming
    }

    /// Why a request of the runtime is refused: HTTP status and error document are the Runtime API's own.
    package enum Refusal: Error, Equatable {
        case invalidStateTransition(String)
        case invalidRequestID
    }

    private let places: Int
    private var life = Life.starting
    private var waiters: [(token: UInt64, waiter: Waiter)] = []
    private var work: [String: Work] = [:]
    /// Answered, and nobody has asked for more work since: at most as many as there are places.
    private var answered: [String] = []
    /// How many were told to give memory back, or lost their connection, and have not asked for work again yet.
    private var hinted = 0
    private var tokens: UInt64 = 0

    /// - Parameter places: requests that may run at once.
    package init(places: Int = 1) { self.places = places }

    /// `true` once the runtime has asked for work and not been given any.
    package var isWaiting: Bool { !waiters.isEmpty }

    /// The invocations in progress.
    package var runningRequestIDs: Set<String> { Set(work.keys) }

    /// Whether the runtime was told to give memory back and has not asked for work again.
    package var isHinted: Bool { hinted > 0 }

    /// The runtime asks for work. The token names this `next`, in case its connection is lost; `isRepeated` when it
    /// follows neither the start nor an answer: after a hint or a lost connection, or from one more process.
    package mutating func next(_ waiter: Waiter) throws(Refusal) -> (token: UInt64, isRepeated: Bool) {
        switch life {
        case .failed: throw .invalidStateTransition("next was asked after init/error")
        case .broken: throw .invalidStateTransition("next was asked after an answer that was broken off")
        case .starting, .restored, .serving: break
        }
        guard waiters.count + work.count < places else {
            throw .invalidStateTransition(
                waiters.isEmpty
                    ? "next was asked before the invocation in progress was answered"
                    : "next was asked while another next is waiting"
            )
        }
        tokens += 1
        waiters.append((tokens, waiter))
        return (tokens, !isFirstOrAfterAnswer())
    }

    private mutating func isFirstOrAfterAnswer() -> Bool {
        if case .serving = life {
            guard answered.isEmpty else {
                answered.removeFirst()
                return true
            }
            hinted = max(0, hinted - 1)
            return false
        }
        life = .serving
        return true
    }

    /// The connection of a waiting `next` was lost; the runtime may ask again.
    package mutating func lost(_ token: UInt64) {
        guard let position = waiters.firstIndex(where: { $0.token == token }) else { return }
        waiters.remove(at: position)
        hinted += 1
    }

    /// Hands an invocation to the waiting runtime; `nil` when it is not waiting.
    package mutating func deliver(_ requestID: String) -> Waiter? {
        guard !waiters.isEmpty else { return nil }
        work[requestID] = .running
        return waiters.removeFirst().waiter
    }

    /// Takes every waiting `next` to answer it with a hint; none while anything runs.
    package mutating func hint() -> [Waiter] {
        guard work.isEmpty else { return [] }
        defer {
            hinted += waiters.count
            waiters = []
        }
        return waiters.map(\.waiter)
    }

    /// The runtime answered `requestID`, with a result or an error.
    package mutating func answer(_ requestID: String) throws(Refusal) {
        switch work[requestID] {
        case .running:
            work[requestID] = nil
            answered.append(requestID)
        case .streaming: throw .invalidStateTransition("the invocation is being answered")
        case nil where answered.contains(requestID):
            throw .invalidStateTransition("the invocation has been answered already")
        case nil: throw .invalidRequestID
        }
    }

    /// The runtime begins to stream its answer to `requestID`; `endStream` or `breakStream` follows.
    package mutating func beginStream(_ requestID: String) throws(Refusal) {
        try answer(requestID)
        answered.removeAll { $0 == requestID }
        work[requestID] = .streaming
    }

    /// The streamed answer to `requestID` has ended; `false` when it is not being answered.
    package mutating func endStream(_ requestID: String) -> Bool {
        guard case .streaming = work[requestID] else { return false }
        work[requestID] = nil
        answered.append(requestID)
        return true
    }

    /// The connection was lost in the middle of a streamed answer; `false` when it is not being answered.
    package mutating func breakStream(_ requestID: String) -> Bool {
        guard case .streaming = work[requestID] else { return false }
        work = [:]
        life = .broken
        return true
    }

    /// The runtime has done what it does before a snapshot, and asks to go on after it.
    package mutating func restoreNext() throws(Refusal) {
        guard case .starting = life else { throw .invalidStateTransition("restore/next was asked after init") }
        life = .restored
    }

    /// The runtime reports that it could not go on after the restore.
    package mutating func restoreError() throws(Refusal) {
        guard case .restored = life else { throw .invalidStateTransition("restore/error was sent without a restore") }
        life = .failed
    }

    /// The runtime reports that it could not start.
    package mutating func initError() throws(Refusal) {
        guard case .starting = life else { throw .invalidStateTransition("init/error was sent after init") }
        life = .failed
    }
}
