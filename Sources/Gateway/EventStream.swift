// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import HTTP
import Linux
import NIOCore
import Pool
import Synchronization
import Telemetry

/// `GET /v1/events`: server-sent events, for as long as the client stays.
///
/// - `decision`: each one as it is made, a `DecisionView`.
/// - `host`: once a second, the ledger and the host.
/// - `sandboxes`: once a second, every sandbox with the kernel's numbers.
/// - `dropped`: how many events a client missed that reads too slowly. Nothing is kept for it beyond a few hundred.
struct EventStream {
    let context: GatewayContext

    /// What one client is behind.
    private final class Client: Sendable {
        struct State {
            var outstanding = 0
            var dropped = 0
            var isGone = false
            var task: RepeatedTask?
            var token: UInt64 = 0
        }

        let state = Mutex(State())
        let responder: HTTPResponder
        private static let limit = 512

        init(_ responder: HTTPResponder) { self.responder = responder }

        /// From any thread, also under the pool's lock: writing happens on the event loop, later.
        func send(_ event: String, _ json: @escaping @Sendable () -> String) {
            let dropped: Int? = state.withLock { state in
                guard !state.isGone else { return nil }
                guard state.outstanding < Self.limit else {
                    state.dropped += 1
                    return nil
                }
                state.outstanding += 1
                defer { state.dropped = 0 }
                return state.dropped
            }
            guard let dropped else { return }
            responder.eventLoop.execute { [self] in
                var text = dropped > 0 ? "event: dropped\ndata: {\"count\":\(dropped)}\n\n" : ""
                text += "event: \(event)\ndata: \(json())\n\n"
                responder.write(ByteBuffer(string: text))
                    .whenComplete { [self] _ in state.withLock { $0.outstanding -= 1 } }
            }
        }
    }

    func follow(_ responder: HTTPResponder) {
        let (client, context) = (Client(responder), context)
        responder.begin(
            .ok,
            headers: [
                "Content-Type": "text/event-stream", "Cache-Control": "no-store", "Transfer-Encoding": "chunked",
            ]
        )
        let token = context.decisions.follow { logged in
            client.send("decision") { JSONText.encode(DecisionView(logged)) }
        }
        let task = responder.eventLoop.scheduleRepeatedTask(initialDelay: .zero, delay: .seconds(1)) { _ in
            context.workers.submit { _ in
                let ledger = JSONText.encode(context.pool.ledgerView)
                let enforced = context.limitsEnforced
                let list = SandboxList(sandboxes: context.sandboxViews, limitsEnforced: enforced)
                let sandboxes = JSONText.encode(list)
                client.send("host") { ledger }
                client.send("sandboxes") { sandboxes }
            }
        }
        client.state.withLock { state in
            state.task = task
            state.token = token
        }
        responder.onDisconnect {
            let task = client.state.withLock { state in
                state.isGone = true
                return state.task
            }
            task?.cancel()
            context.decisions.unfollow(token)
        }
    }
}
