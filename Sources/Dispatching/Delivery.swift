// SPDX-License-Identifier: Apache-2.0
import Functions
import HTTP
import NIOCore
import NIOHTTP1
import Settings
import Units

/// Carries one record to a file or to an HTTP address.
struct Delivery {
    enum Outcome: Sendable, Equatable {
        case done
        /// Perhaps later.
        case failed(String)
        /// It will be the same next time.
        case refused(String)
    }

    /// How long an HTTP address may take for its answer.
    static let timeout = TimeAmount.seconds(10)

    let settings: Settings
    let group: any EventLoopGroup

    /// How long until the next attempt: one second, then two, up to five minutes.
    static func pause(after attempts: Int) -> Duration {
        .milliseconds(min(300_000, 1000 << min(Int64(max(0, attempts - 1)), 9)))
    }

    /// Blocking where the disk is; `completion` is called once, on any thread.
    func carry(_ event: QueuedEvent, to text: String, completion: @escaping @Sendable (Outcome) -> Void) {
        guard let destination = try? Destination(text) else {
            return completion(.refused("'\(text)' is no destination"))
        }
        let rules = DestinationRules(settings: settings)
        // The operator may have said something else since the record was accepted.
        if let problem = rules.problem(destination) { return completion(.refused(problem)) }
        switch destination {
        case .function(let name): completion(.refused("the function \(name) is no place to carry a record to"))
        case .file(let path): completion(append(event.payload, to: path, below: rules.directory))
        case .http(let place): post(event, to: place, completion)
        }
    }

    private func append(_ record: [UInt8], to path: String, below directory: String) -> Outcome {
        do throws(RecordFile.Problem) {
            try RecordFile.append(record, to: path, below: directory, limit: settings.limits.destinationFile)
            return .done
        } catch {
            return error.isFinal ? .refused(error.description) : .failed(error.description)
        }
    }

    private func post(
        _ event: QueuedEvent,
        to place: Destination.HTTPPlace,
        _ completion: @escaping @Sendable (Outcome) -> Void
    ) {
        var headers: HTTPHeaders = [
            "Host": place.authority, "Content-Type": "application/json", "User-Agent": "ebb",
            // The same for each attempt, so that whoever receives it twice can tell.
            "X-Fn-Delivery-Id": event.id,
        ]
        if let parent = event.traceParent { headers.add(name: "traceparent", value: parent) }
        if let state = event.traceState { headers.add(name: "tracestate", value: state) }
        HTTPPost.send(
            to: place.host,
            port: place.port,
            path: place.path,
            headers: headers,
            body: ByteBuffer(bytes: event.payload),
            timeout: Self.timeout,
            on: group
        )
        .whenComplete { result in
            switch result {
            case .success(let status) where (200..<300).contains(status.code): completion(.done)
            case .success(let status): completion(.failed("\(place.authority) answered \(status.code)"))
            case .failure(let error): completion(.failed("\(place.authority): \(error)"))
            }
        }
    }
}
