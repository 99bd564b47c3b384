// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol

struct Queue: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show, retry and purge events that were accepted for later.",
        discussion: "fn invoke hello-python -d '{}' --async\nfn queue ls --state failed",
        subcommands: [Events.self, Event.self, Retry.self, Purge.self],
        defaultSubcommand: Events.self
    )

    enum State: String, ExpressibleByArgument, CaseIterable { case queued, running, succeeded, failed }

    /// Which events are meant.
    struct Filter: ParsableArguments {
        @Option(help: "Only those of this function.") var function: String?
        @Option(help: "Only those that are queued, running, succeeded or failed.") var state: State?

        var query: String {
            let parts = [
                function.map { "function=\(PercentEncoder.encode($0))" }, state.map { "state=\($0.rawValue)" },
            ]
            .compactMap { $0 }
            return parts.isEmpty ? "" : "?" + parts.joined(separator: "&")
        }
    }

    struct Events: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List events, newest first.")
        @OptionGroup var filter: Filter
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let answer = try daemon.get(EventList.self, "/v1/queue\(filter.query)")
            list.show(answer, names: answer.events.map(\.id)) {
                var table = Table(header: ["EVENT", "FUNCTION", "STATE", "ACCEPTED", "ATTEMPTS", "NEXT", "REASON"])
                table.rows = answer.events.map { event in
                    [
                        event.id, event.destination.map { "\(event.function) -> \($0)" } ?? event.function, event.state,
                        event.accepted, String(event.attempts),
                        event.due ?? "-", event.reason ?? "-",
                    ]
                }
                return table.text
            }
        }
    }

    struct Event: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one event: what was sent, what became of it, and the function's answer."
        )
        @Argument(help: "The event: the request id that fn invoke --async printed.") var id: String
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let event = try daemon.get(EventView.self, "/v1/queue/\(PercentEncoder.encode(id))")
            list.show(event, names: [event.id]) { Queue.text(event) }
        }
    }

    struct Retry: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run given-up events again, as if they had just come."
        )
        @Argument(help: "The events.") var ids: [String]
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            for id in ids {
                _ = try daemon.call("POST", "/v1/queue/\(PercentEncoder.encode(id))/retry")
                Console.error("Queued \(id) again.")
            }
        }
    }

    struct Purge: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove events: those of one state, or all that have ended."
        )
        @OptionGroup var filter: Filter
        @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            let what = filter.state.map { "all that are \($0.rawValue)" } ?? "all that have ended"
            let whose = filter.function.map { " of \($0)" } ?? ""
            if !yes, Console.canAsk, !Console.confirm("Remove \(what)\(whose)?") {
                throw Failure(.failed, "fn: nothing was removed")
            }
            let answer = try daemon.call("DELETE", "/v1/queue\(filter.query)")
            let result = try JSONText.decode(PurgeResult.self, from: answer.body)
            Console.error("Removed \(result.removed) event\(result.removed == 1 ? "" : "s").")
        }
    }

    static func text(_ event: EventView) -> String {
        let lines = [
            ("event", event.id), ("function", event.function), ("carried to", event.destination),
            ("state", event.state), ("accepted", event.accepted),
            ("next run", event.due), ("finished", event.finished), ("attempts", String(event.attempts)),
            ("reason", event.reason), ("sent", event.payload), ("answer", event.result),
        ]
        return
            lines.compactMap { label, value in
                value.map { "\(label):".padded(to: 12) + $0 }
            }
            .joined(separator: "\n")
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
