// SPDX-License-Identifier: Apache-2.0

/// The Extensions API's rules of order, for one extension, as a pure state machine.
///
/// States follow AWS's reference implementation: an extension starts, registers, asks for its next event, handles it,
/// and asks again. What comes while it does not wait is kept for its next question, at most one event of each kind.
package struct ExtensionSession<Waiter: Sendable>: Sendable {
    private enum State {
        /// Started by process 1; a program inside the runtime's own process begins with its registration.
        case started
        case registered
        case waiting(Waiter, token: UInt64)
        case running
        case initError
        case exitError
        case exited

        /// AWS's name for it.
        var name: String {
            switch self {
            case .started: "Started"
            case .registered: "Registered"
            case .waiting: "Ready"
            case .running: "Running"
            case .initError: "InitError"
            case .exitError: "ExitError"
            case .exited: "Exited"
            }
        }
    }

    /// What it has not been given yet.
    private struct Pending {
        var invocation: ExtensionEvent.Invocation?
        var resize: ExtensionEvent?
        var shutdown: ExtensionEvent?
    }

    package let name: String
    /// Whether it is a process of its own, started by process 1.
    package let isExternal: Bool
    private var state = State.started
    private var kinds: Set<ExtensionEvent.Kind> = []
    private var pending = Pending()
    /// Whether the start, or the invocation in progress, is not over before it has asked for its next event.
    private var owes = true
    private var shutdownWasGiven = false

    init(name: String, isExternal: Bool) {
        self.name = name
        self.isExternal = isExternal
    }

    /// Whether nobody has to wait for it: it has done what it was told, or has ended.
    var isSettled: Bool { !owes || hasEnded }

    var hasEnded: Bool {
        switch state {
        case .initError, .exitError, .exited: true
        default: false
        }
    }

    var hasRegistered: Bool {
        if case .started = state { false } else { true }
    }

    var summary: ExtensionSummary {
        ExtensionSummary(name: name, state: state.name, events: kinds.map(\.rawValue).sorted())
    }

    /// Whether it is to be told of the end, and there is somebody to tell.
    var wantsShutdown: Bool { kinds.contains(.shutdown) && !hasEnded }

    /// Whether it was told of the end and has done what it wanted: it asked again, or ended.
    var isShutDown: Bool {
        if hasEnded || !kinds.contains(.shutdown) { return true }
        if case .waiting = state { return shutdownWasGiven }
        return false
    }

    mutating func register(_ kinds: Set<ExtensionEvent.Kind>) throws(ExtensionRefusal) {
        guard case .started = state else { throw refusal(to: .registered) }
        state = .registered
        self.kinds = kinds
    }

    /// It asks for its next event: one that is pending is the answer at once, else it waits.
    mutating func next(_ waiter: Waiter, token: UInt64) throws(ExtensionRefusal) -> ExtensionEvent? {
        switch state {
        case .registered, .running: break
        case .started, .waiting, .initError, .exitError, .exited: throw refusal(to: .waiting(waiter, token: token))
        }
        state = .running
        if let shutdown = pending.shutdown {
            pending = Pending()
            shutdownWasGiven = true
            return shutdown
        }
        if let invocation = pending.invocation {
            pending.invocation = nil
            return .invoke(invocation)
        }
        owes = false
        if let resize = pending.resize {
            pending.resize = nil
            return resize
        }
        state = .waiting(waiter, token: token)
        return nil
    }

    /// The connection of its waiting `next` was lost; it may ask again.
    mutating func lost(_ token: UInt64) {
        if case .waiting(_, token) = state { state = .running }
    }

    mutating func initError() throws(ExtensionRefusal) {
        switch state {
        case .registered, .initError: state = .initError
        default: throw refusal(to: .initError)
        }
    }

    mutating func exitError() throws(ExtensionRefusal) {
        switch state {
        case .registered, .waiting, .running, .exitError: state = .exitError
        default: throw refusal(to: .exitError)
        }
    }

    /// Its process has ended.
    mutating func exited() { state = .exited }

    // MARK: Events, given at once to one that waits

    mutating func invoke(_ invocation: ExtensionEvent.Invocation) -> Waiter? {
        guard kinds.contains(.invoke), !hasEnded else { return nil }
        owes = true
        pending.invocation = invocation
        return give { $0.invocation = nil }
    }

    /// The newest takes the place of one that has not been given yet.
    mutating func resize(_ event: ExtensionEvent) -> Waiter? {
        guard kinds.contains(.resize), !hasEnded else { return nil }
        pending.resize = event
        return give { $0.resize = nil }
    }

    mutating func shutdown(_ event: ExtensionEvent) -> Waiter? {
        guard wantsShutdown else { return nil }
        pending.shutdown = event
        let waiter = give { $0 = Pending() }
        if waiter != nil { shutdownWasGiven = true }
        return waiter
    }

    private mutating func give(_ taken: (inout Pending) -> Void) -> Waiter? {
        guard case .waiting(let waiter, _) = state else { return nil }
        state = .running
        taken(&pending)
        return waiter
    }

    private func refusal(to next: State) -> ExtensionRefusal {
        .invalidState(name: name, from: state.name, to: next.name)
    }
}
