// SPDX-License-Identifier: Apache-2.0

/// The answer to an event that was accepted for later.
package struct AcceptedView: Codable, Sendable {
    package var requestId: String
    package init(requestId: String) { self.requestId = requestId }
}

/// An event of the queue, and what became of it. Times are ISO 8601.
package struct EventView: Codable, Sendable {
    package var id: String
    package var function: String
    /// `queued`, `running`, `succeeded` or `failed`.
    package var state: String
    package var accepted: String
    /// When it is run next; absent once it has ended.
    package var due: String?
    /// Where its payload is carried, where it is the record of another event.
    package var destination: String?
    package var finished: String?
    /// Runs that came to an end of the function's own.
    package var attempts: Int
    package var reason: String?
    /// The event and the function's last answer or error document, as text; only where one event is asked for.
    package var payload: String?
    package var result: String?

    package init(id: String, function: String, state: String, accepted: String, attempts: Int) {
        self.id = id
        self.function = function
        self.state = state
        self.accepted = accepted
        self.attempts = attempts
    }
}

package struct EventList: Codable, Sendable {
    package var events: [EventView]
    package init(events: [EventView]) { self.events = events }
}

package struct PurgeResult: Codable, Sendable {
    package var removed: Int
    package init(removed: Int) { self.removed = removed }
}

/// What becomes of a function's asynchronous events, effective.
package struct EventHandlingView: Codable, Sendable, Equatable {
    package var retries: Int
    package var maxAgeSeconds: Int64
    /// Functions by name; files and addresses as they were written.
    package var onSuccess: String?
    package var onFailure: String?
    package var deadLetter: String?

    package init(retries: Int, maxAgeSeconds: Int64, onSuccess: String?, onFailure: String?, deadLetter: String?) {
        self.retries = retries
        self.maxAgeSeconds = maxAgeSeconds
        self.onSuccess = onSuccess
        self.onFailure = onFailure
        self.deadLetter = deadLetter
    }
}
