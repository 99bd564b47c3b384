// SPDX-License-Identifier: Apache-2.0
import Units

/// One thing that was decided, about whom, and from which numbers.
package struct Decision: Sendable, Equatable {
    package enum Kind: String, Sendable, CaseIterable {
        // Requests.
        case run
        case wait
        case refuse
        // Sandboxes.
        case start
        case assign
        case grow
        case lower
        case pending
        case shrink
        case shrunk
        /// What would have been shrunk, where the operator only looks on.
        case observe
        case freeze
        case keep
        case prepare
        case evict
        case stop
        // The host.
        case tier
        case drift
    }

    /// A number that the decision was made from. The unit is part of the name: `free_bytes`, `idle_ms`.
    package struct Number: Sendable, Equatable {
        package var name: String
        package var value: Int64
    }

    package var kind: Kind
    package var sandbox: SandboxID?
    /// The request's id, where the caller gave one.
    package var request: String?
    package var function: String?
    /// One clause that can be read aloud.
    package var reason: String { why.text }
    var why: Reason
    package var numbers: [Number]
    /// The reason as one word, where it is counted: of what was taken, and of what ended.
    package var cause: String?

    init(
        _ kind: Kind,
        sandbox: SandboxID? = nil,
        request: String? = nil,
        function: String? = nil,
        _ why: Reason,
        _ numbers: KeyValuePairs<String, Int64> = [:],
        cause: String? = nil
    ) {
        self.cause = cause
        self.kind = kind
        self.sandbox = sandbox
        self.request = request
        self.function = function
        self.why = why
        self.numbers = numbers.map { Number(name: $0.key, value: $0.value) }
    }
}

extension Decision {
    /// Why, as it was known: made into words for those who read it, since two are made for every call and few are read.
    enum Reason: Sendable, Equatable {
        case words(String)
        case refusal(PoolRefusal)
        /// A sandbox that was at hand, which held `limit`, runs a request of this contract.
        case run(StartKind, wasShrunk: Bool, limit: Bytes, contract: Bytes)

        var text: String {
            switch self {
            case .words(let text): text
            case .refusal(let refusal): refusal.reason
            case .run(let kind, let wasShrunk, let limit, let contract):
                "\(Self.kind(kind, wasShrunk)), \(Self.size(limit, contract))"
            }
        }

        private static func kind(_ kind: StartKind, _ wasShrunk: Bool) -> String {
            switch kind {
            case .cold: "the sandbox that was started for it"
            case .prewarmed: "a sandbox that was started ahead"
            case .warm: "a warm sandbox, running-ready"
            case .thawed: wasShrunk ? "a shrunk sandbox, woken" : "a sandbox that was frozen or about to be, taken back"
            }
        }

        private static func size(_ limit: Bytes, _ contract: Bytes) -> String {
            if contract > limit { return "grown to \(contract.rounded)" }
            return contract < limit ? "to be lowered to \(contract.rounded)" : "as large as it is"
        }
    }
}

extension Decision {
    init(
        _ kind: Kind,
        sandbox: SandboxID? = nil,
        request: String? = nil,
        function: String? = nil,
        _ reason: String,
        _ numbers: KeyValuePairs<String, Int64> = [:],
        cause: String? = nil
    ) {
        self.init(kind, sandbox: sandbox, request: request, function: function, .words(reason), numbers, cause: cause)
    }
}

/// Memory that went from one function's sandboxes to another's requests; bounded by the number of functions squared.
package struct MemoryFlow: Sendable, Hashable {
    package var from: String
    /// `nil` when nobody in particular waited for it.
    package var to: String?
}

extension Decision {
    /// One of its numbers.
    package subscript(name: String) -> Int64? { numbers.first { $0.name == name }?.value }
}
