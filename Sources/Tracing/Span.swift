// SPDX-License-Identifier: Apache-2.0

/// A stretch of time in a trace, with what is known of it.
package struct Span: Sendable {
    /// As OTLP numbers them.
    package enum Kind: Int, Sendable {
        case `internal` = 1
        case server = 2
        case producer = 4
        case consumer = 5
    }

    package enum Value: Sendable, Equatable {
        case text(String)
        case number(Int64)
        case flag(Bool)
    }

    package var name: String
    package var kind: Kind
    /// Its own place in the trace.
    package var context: TraceContext
    package var parent: SpanID?
    /// Nanoseconds of `MonotonicClock`.
    package var began: Int64
    package var ended: Int64
    package var attributes: [(name: String, value: Value)] = []
    /// Why it failed; `nil` says nothing of how it went.
    package var error: String?

    package init(
        _ name: String,
        _ kind: Kind = .internal,
        context: TraceContext,
        parent: SpanID?,
        began: Int64,
        ended: Int64
    ) {
        (self.name, self.kind, self.context, self.parent) = (name, kind, context, parent)
        (self.began, self.ended) = (began, max(began, ended))
    }

    package mutating func set(_ name: String, _ value: String?) {
        if let value { attributes.append((name, .text(value))) }
    }

    package mutating func set(_ name: String, _ value: Int64?) {
        if let value { attributes.append((name, .number(value))) }
    }

    package mutating func set(_ name: String, _ value: Bool) { attributes.append((name, .flag(value))) }
}
