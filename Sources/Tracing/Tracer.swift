// SPDX-License-Identifier: Apache-2.0
import Settings
import Synchronization

/// Decides what is traced. Where tracing is off, asking costs one look at one flag.
package final class Tracer: Sendable {
    private let isOn = Atomic(false)
    /// A trace that begins here is recorded when the low half of its id is below this.
    private let threshold = Atomic<UInt64>(0)
    package let exporter: SpanExporter

    package init(_ exporter: SpanExporter) { self.exporter = exporter }

    /// Puts settings in force, also while it runs.
    package func configure(_ settings: Settings.Tracing) {
        exporter.configure(settings)
        // 2^64 is one more than there is.
        let bound = settings.sample >= 1 ? .max : UInt64(settings.sample * 0x1p64)
        threshold.store(bound, ordering: .relaxed)
        isOn.store(settings.collector != nil, ordering: .releasing)
    }

    /// Whether there is a collector.
    package var isTracing: Bool { isOn.load(ordering: .acquiring) }

    /// The place of something that begins now; `nil` where tracing is off.
    ///
    /// Who calls has decided already whether it is recorded (its `sampled` flag); where nobody has, `tracing.sample` does.
    package func begin(_ caller: TraceContext?) -> TraceContext? {
        guard isTracing else { return nil }
        if var context = caller {
            context.span = .random()
            return context
        }
        let trace = TraceID.random()
        let bound = threshold.load(ordering: .relaxed)
        return TraceContext(trace: trace, span: .random(), isSampled: trace.low < bound || bound == .max)
    }
}
