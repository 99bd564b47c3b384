// SPDX-License-Identifier: Apache-2.0

/// The Lambda Runtime API's rules of order, for one sandbox, as a pure state machine.
///
/// States follow AWS's reference implementation: a runtime starts, asks for work, is given one invocation, answers it,
/// and asks again. `Waiter` is whatever answers a pending `next`; tests use a number, the server an HTTP responder.
package struct RuntimeSession<Waiter: Sendable>: Sendable {
    private enum State {
        case starting
        /// Has asked to go on after a restore, which here follows the start at once.
        case restored
        case waiting(Waiter, token: UInt64)
        case running(requestID: String)
        /// Its answer is arriving.
        case streaming(requestID: String)
        /// Answered, and has not asked for more work yet.
        case answered(requestID: String)
        /// Was told to give memory back, and has not asked for work again yet.
        case hinted
        case failed
        /// Its answer ended in the middle: nothing it says from now on can be trusted.
        case broken
    }

    /// Why a request of the runtime is refused: HTTP status and error document are the Runtime API's own.
    package enum Refusal: Error, Equatable {
        case invalidStateTransition(String)
        case invalidRequestID
    }

    private var state = State.starting
    private var tokens: UInt64 = 0

    package init() {}

    /// `true` once the runtime has asked for work and not been given any.
    package var isWaiting: Bool {
        if case .waiting = state { true } else { false }
    }

    /// The invocation in progress, if any.
    package var runningRequestID: String? {
        switch state {
        case .running(let id), .streaming(let id): id
        default: nil
        }
    }

    /// Whether the runtime was told to give memory back and has not asked for work again.
    package var isHinted: Bool {
        if case .hinted = state { true } else { false }
    }

    /// The runtime asks for work. The token names this `next`, in case its connection is lost; `isRepeated` when it
    /// had asked before and was given none: after a hint or a lost connection.
    package mutating func next(_ waiter: Waiter) throws(Refusal) -> (token: UInt64, isRepeated: Bool) {
        switch state {
        case .starting, .restored, .answered, .hinted:
            let isRepeated = isHinted
            tokens += 1
            state = .waiting(waiter, token: tokens)
            return (tokens, isRepeated)
        case .waiting: throw .invalidStateTransition("next was asked while another next is waiting")
        case .running, .streaming:
            throw .invalidStateTransition("next was asked before the invocation in progress was answered")
        case .failed: throw .invalidStateTransition("next was asked after init/error")
        case .broken: throw .invalidStateTransition("next was asked after an answer that was broken off")
        }
    }

    /// The connection of a waiting `next` was lost; the runtime may ask again.
    package mutating func lost(_ token: UInt64) {
        if case .waiting(_, token) = state { state = .hinted }
    }

    /// Hands an invocation to the waiting runtime; `nil` when it is not waiting.
    package mutating func deliver(_ requestID: String) -> Waiter? {
        guard case .waiting(let waiter, _) = state else { return nil }
        state = .running(requestID: requestID)
        return waiter
    }

    /// Takes the waiting `next` to answer it with a hint; `nil` when the runtime is not waiting.
    package mutating func hint() -> Waiter? {
        guard case .waiting(let waiter, _) = state else { return nil }
        state = .hinted
        return waiter
    }

    /// The runtime answered `requestID`, with a result or an error.
    package mutating func answer(_ requestID: String) throws(Refusal) {
        switch state {
        case .running(requestID): state = .answered(requestID: requestID)
        case .streaming(requestID): throw .invalidStateTransition("the invocation is being answered")
        case .answered(requestID): throw .invalidStateTransition("the invocation has been answered already")
        default: throw .invalidRequestID
        }
    }

    /// The runtime begins to stream its answer to `requestID`; `endStream` or `breakStream` follows.
    package mutating func beginStream(_ requestID: String) throws(Refusal) {
        try answer(requestID)
        state = .streaming(requestID: requestID)
    }

    /// The streamed answer to `requestID` has ended; `false` when it is not being answered.
    package mutating func endStream(_ requestID: String) -> Bool {
        guard case .streaming(requestID) = state else { return false }
        state = .answered(requestID: requestID)
        return true
    }

    /// The connection was lost in the middle of a streamed answer; `false` when it is not being answered.
    package mutating func breakStream(_ requestID: String) -> Bool {
        guard case .streaming(requestID) = state else { return false }
        state = .broken
        return true
    }

    /// The runtime has done what it does before a snapshot, and asks to go on after it.
    package mutating func restoreNext() throws(Refusal) {
        guard case .starting = state else { throw .invalidStateTransition("restore/next was asked after init") }
        state = .restored
    }

    /// The runtime reports that it could not go on after the restore.
    package mutating func restoreError() throws(Refusal) {
        guard case .restored = state else { throw .invalidStateTransition("restore/error was sent without a restore") }
        state = .failed
    }

    /// The runtime reports that it could not start.
    package mutating func initError() throws(Refusal) {
        guard case .starting = state else { throw .invalidStateTransition("init/error was sent after init") }
        state = .failed
    }
}
