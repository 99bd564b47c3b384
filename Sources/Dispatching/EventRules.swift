// SPDX-License-Identifier: Apache-2.0
import Functions
import Settings
import Units

/// What becomes of a function's events: its own word over the operator's defaults. Pure.
struct EventRules: Sendable {
    /// Attempts after the first one failed.
    var retries: Int
    /// Until the first of them, the second…; the last holds for all that follow.
    var backoff: [Duration]
    var maxAge: Duration
    var onSuccess: String?
    var onFailure: String?
    var deadLetter: String?

    init(_ own: EventHandling, _ defaults: Settings.Defaults) {
        retries = own.retries ?? defaults.retries
        backoff = defaults.backoff
        maxAge = own.maxAgeSeconds.map { .seconds($0) } ?? defaults.maxEventAge
        (onSuccess, onFailure, deadLetter) = (own.onSuccess, own.onFailure, own.deadLetter)
    }

    /// How long a function waits that has failed so often before.
    func pause(before attempt: Int) -> Duration { backoff.isEmpty ? .zero : backoff[min(attempt, backoff.count - 1)] }

    /// The events that follow from an ended one: the record for its destination, and itself for its dead letters.
    ///
    /// - Parameter now: milliseconds since 1970.
    func followers(of event: QueuedEvent, now: Int64, makeID: () -> String) -> [QueuedEvent] {
        // Of a record that could not be carried nobody is told, or that would go on for ever.
        guard event.target == nil else { return [] }
        let isGood = event.state == .succeeded
        func follower(_ destination: String, _ payload: [UInt8]) -> QueuedEvent {
            var follower = QueuedEvent(
                id: makeID(),
                function: event.function,
                arn: event.arn,
                payload: payload,
                acceptedMs: now
            )
            follower.traceID = event.traceID
            (follower.traceParent, follower.traceState) = (event.traceParent, event.traceState)
            if case .function(let name) = try? Destination(destination) {
                // arn:aws:lambda:REGION:ACCOUNT:function
                let region = event.arn.split(separator: ":").prefix(6).joined(separator: ":")
                (follower.function, follower.arn) = (name, "\(region):\(name)")
            } else {
                follower.target = destination
            }
            return follower
        }
        var followers: [QueuedEvent] = []
        if let destination = isGood ? onSuccess : onFailure {
            followers.append(follower(destination, DestinationRecord(event, isGood: isGood, now: now).json))
        }
        if !isGood, let deadLetter { followers.append(follower(deadLetter, event.payload)) }
        return followers
    }
}
