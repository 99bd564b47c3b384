// SPDX-License-Identifier: Apache-2.0

/// The extensions of one sandbox, and when it has come to rest: a pure state machine.
///
/// A start, and an invocation, is over when the runtime and every extension have asked for their next event. Those that
/// process 1 started are known before the runtime starts, and have to register or end; others, inside the runtime's own
/// process, may register until the runtime first asks for work.
package struct ExtensionRegistry<Waiter: Sendable>: Sendable {
    /// As many as Lambda allows.
    package static var limit: Int { 10 }
    /// The longest name, in bytes.
    package static var longestName: Int { 128 }

    /// An event and who is waiting for it.
    package struct Delivery: Sendable {
        package let waiter: Waiter
        package let event: ExtensionEvent
    }

    private var sessions: [ExtensionSession<Waiter>] = []
    private var positions: [String: Int] = [:]
    private var tokens: UInt64 = 0
    private var isOpen = true
    private var runtimeWaits = false
    private var isShuttingDown = false
    private let allowsInvoke: Bool

    /// - Parameter allowsInvoke: not where several requests run at once: an extension could not tell them apart.
    package init(allowsInvoke: Bool = true) { self.allowsInvoke = allowsInvoke }

    // MARK: Coming

    /// Process 1 is about to start an executable of this name.
    package mutating func launched(_ name: String) throws(ExtensionRefusal) {
        try checkName(name)
        try checkRoom()
        guard !sessions.contains(where: { $0.name == name }) else {
            throw .invalidName("Extension with this name is started already")
        }
        sessions.append(ExtensionSession(name: name, isExternal: true))
    }

    /// - Parameter identifier: what it is called by from now on; a UUID.
    package mutating func register(
        _ name: String,
        events: [String],
        identifier: String
    ) throws(ExtensionRefusal) {
        try checkName(name)
        let external = sessions.firstIndex { $0.name == name && $0.isExternal }
        let kinds = try kinds(events, isExternal: external != nil)
        let position: Int
        if let external {
            position = external
        } else {
            guard isOpen else { throw .registrationClosed }
            guard !sessions.contains(where: { $0.name == name }) else {
                throw .invalidState(name: name, from: "Registered", to: "Registered")
            }
            try checkRoom()
            sessions.append(ExtensionSession(name: name, isExternal: false))
            position = sessions.count - 1
        }
        try sessions[position].register(kinds)
        positions[identifier] = position
    }

    private func kinds(
        _ events: [String],
        isExternal: Bool
    ) throws(ExtensionRefusal) -> Set<ExtensionEvent.Kind> {
        var kinds: Set<ExtensionEvent.Kind> = []
        for event in events {
            guard let kind = ExtensionEvent.Kind(rawValue: event) else {
                throw .invalidEvent("\(event.prefix(64)): no such event")
            }
            // One inside the runtime's process ends with it.
            guard kind != .shutdown || isExternal else {
                throw .invalidEvent("SHUTDOWN: only for extensions that are processes of their own")
            }
            guard kind != .invoke || allowsInvoke else {
                throw .invalidEvent("INVOKE: not where a sandbox runs several requests at once (per_sandbox)")
            }
            kinds.insert(kind)
        }
        return kinds
    }

    private func checkName(_ name: String) throws(ExtensionRefusal) {
        guard !name.isEmpty else { throw .invalidName("Empty extension name") }
        guard name.utf8.count <= Self.longestName else {
            throw .invalidName("The extension's name is longer than \(Self.longestName) bytes")
        }
    }

    private func checkRoom() throws(ExtensionRefusal) {
        guard sessions.count < Self.limit else { throw .tooMany(limit: Self.limit) }
    }

    // MARK: Working

    /// What became of a `next`: the answer, if there is one at once, and whether the sandbox has come to rest by it.
    package struct Next: Sendable {
        package let token: UInt64
        package let event: ExtensionEvent?
        package let isAtRest: Bool
    }

    package mutating func next(_ identifier: String, _ waiter: Waiter) throws(ExtensionRefusal) -> Next {
        let position = try find(identifier)
        tokens += 1
        let token = tokens
        let event = try sessions[position].next(waiter, token: token)
        return Next(token: token, event: event, isAtRest: comeToRest())
    }

    package mutating func lost(_ identifier: String, _ token: UInt64) {
        if let position = positions[identifier] { sessions[position].lost(token) }
    }

    package mutating func initError(_ identifier: String) throws(ExtensionRefusal) -> String {
        let position = try find(identifier)
        try sessions[position].initError()
        return sessions[position].name
    }

    package mutating func exitError(_ identifier: String) throws(ExtensionRefusal) -> String {
        let position = try find(identifier)
        try sessions[position].exitError()
        return sessions[position].name
    }

    /// The name that an extension registered under.
    package func name(_ identifier: String) throws(ExtensionRefusal) -> String { sessions[try find(identifier)].name }

    /// What is told of each when a start is over.
    package var summaries: [ExtensionSummary] { sessions.filter(\.hasRegistered).map(\.summary) }

    /// Whether anybody has registered and not ended.
    package var hasLiving: Bool { sessions.contains { $0.hasRegistered && !$0.hasEnded } }

    private func find(_ identifier: String) throws(ExtensionRefusal) -> Int {
        guard let position = positions[identifier] else { throw .unknownIdentifier }
        return position
    }

    /// What the end of an extension's process means.
    package enum End: Sendable, Equatable {
        /// It had registered and was not told to end: the sandbox ends too.
        case crash
        /// Nothing, or that the sandbox has come to rest without it.
        case harmless(isAtRest: Bool)
    }

    /// Process 1 says that an extension's process has ended.
    package mutating func exited(_ name: String) -> End {
        guard let position = sessions.firstIndex(where: { $0.name == name && $0.isExternal }) else {
            return .harmless(isAtRest: false)
        }
        let isCrash = sessions[position].hasRegistered && !sessions[position].hasEnded && !isShuttingDown
        sessions[position].exited()
        return isCrash ? .crash : .harmless(isAtRest: comeToRest())
    }

    // MARK: The runtime

    /// The runtime asks for work, after its start or an invocation; returns whether the sandbox has come to rest.
    package mutating func runtimeIsWaiting() -> Bool {
        isOpen = false
        runtimeWaits = true
        return comeToRest()
    }

    /// The runtime is being given an invocation: so are those who asked for that.
    package mutating func invoke(_ invocation: ExtensionEvent.Invocation) -> [Delivery] {
        runtimeWaits = false
        return deliver(.invoke(invocation)) { $0.invoke(invocation) }
    }

    /// Whether the start, or an invocation, is over now: said once.
    private mutating func comeToRest() -> Bool {
        guard runtimeWaits, sessions.allSatisfy(\.isSettled) else { return false }
        runtimeWaits = false
        return true
    }

    // MARK: The sandbox

    package mutating func resize(memoryMB: Int64, cpuMillis: Int64?) -> [Delivery] {
        let event = ExtensionEvent.resize(memoryMB: memoryMB, cpuMillis: cpuMillis)
        return deliver(event) { $0.resize(event) }
    }

    /// Whether anybody has to be told before the sandbox ends.
    package var wantsShutdown: Bool { sessions.contains(where: \.wantsShutdown) }

    package mutating func shutdown(_ reason: ShutdownReason, deadlineMs: Int64) -> [Delivery] {
        isShuttingDown = true
        let event = ExtensionEvent.shutdown(reason, deadlineMs: deadlineMs)
        return deliver(event) { $0.shutdown(event) }
    }

    /// Whether all that were to be told of the end have done what they wanted.
    package var isShutDown: Bool { isShuttingDown && sessions.allSatisfy(\.isShutDown) }

    private mutating func deliver(
        _ event: ExtensionEvent,
        _ give: (inout ExtensionSession<Waiter>) -> Waiter?
    ) -> [Delivery] {
        sessions.indices.compactMap { position in
            give(&sessions[position]).map { Delivery(waiter: $0, event: event) }
        }
    }
}
