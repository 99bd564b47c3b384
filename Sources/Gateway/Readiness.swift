// SPDX-License-Identifier: Apache-2.0
import HTTP
import Synchronization

/// What `/readyz` says: whether a load balancer should send requests here.
///
/// The first door opens before the last: whoever asks in between is told to wait. One that stops still answers what it was
/// asked, over connections that it has, and wants no more.
package final class Readiness: Sendable {
    private enum State: UInt8, AtomicRepresentable {
        case starting
        case serving
        case stopping
    }

    private let state = Atomic(State.starting)

    package init() {}

    package func isServing() { state.store(.serving, ordering: .relaxed) }
    package func isStopping() { state.store(.stopping, ordering: .relaxed) }

    var response: HTTPResponse {
        switch state.load(ordering: .relaxed) {
        case .starting: HTTPResponse(.serviceUnavailable, text: "starting\n", type: "text/plain")
        case .serving: HTTPResponse(.ok, text: "ready\n", type: "text/plain")
        case .stopping: HTTPResponse(.serviceUnavailable, text: "stopping\n", type: "text/plain")
        }
    }
}
