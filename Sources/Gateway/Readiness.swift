// SPDX-License-Identifier: Apache-2.0
import HTTP
import Synchronization

/// What `/readyz` says: whether a load balancer should send requests here.
///
/// The first door opens before the last: whoever asks in between is told to wait. One that stops still answers what it was
/// asked, over connections that it has, and wants no more.
package final class Readiness: Sendable {
    private let state = Atomic(0)

    package init() {}

    package func isServing() { state.store(1, ordering: .relaxed) }
    package func isStopping() { state.store(2, ordering: .relaxed) }

    var response: HTTPResponse {
        switch state.load(ordering: .relaxed) {
        case 0: HTTPResponse(.serviceUnavailable, text: "starting\n", type: "text/plain")
        case 1: HTTPResponse(.ok, text: "ready\n", type: "text/plain")
        default: HTTPResponse(.serviceUnavailable, text: "stopping\n", type: "text/plain")
        }
    }
}
