// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import Tracing

/// The acceptance of an event for later, as a span: what runs the event, whenever and however often, is below it.
struct AcceptanceTrace: Sendable {
    /// What the event carries on.
    let context: TraceContext
    private let parent: SpanID?
    private let event: (id: String, function: String, bytes: Int)
    private let http: HTTPOrigin?
    private let tracer: Tracer
    private let began = MonotonicClock.now()

    /// `nil` where tracing is off.
    init?(_ request: InvocationRequest, _ event: QueuedEvent, _ tracer: Tracer) {
        guard tracer.isTracing else { return nil }
        let caller = request.caller
        guard let context = tracer.begin(caller) else { return nil }
        (self.context, parent, self.tracer, http) = (context, caller?.span, tracer, request.http)
        self.event = (event.id, event.function, event.payload.count)
    }

    func end(_ error: String?) {
        guard context.isSampled else { return }
        var span = Span(
            "accept \(event.function)",
            .producer,
            context: context,
            parent: parent,
            began: began,
            ended: MonotonicClock.now()
        )
        span.set("faas.invoked_name", event.function)
        span.set("faas.invocation_id", event.id)
        span.set("messaging.system", "ebb")
        span.set("messaging.operation.type", "send")
        span.set("messaging.destination.name", event.function)
        span.set("messaging.message.id", event.id)
        span.set("messaging.message.body.size", Int64(event.bytes))
        span.set("http.request.method", http?.method)
        span.set("http.route", http?.route)
        span.set("url.path", http?.path)
        span.set("url.scheme", http?.scheme)
        span.set("user_agent.original", http?.userAgent)
        span.error = error
        tracer.exporter.add([span])
    }
}
