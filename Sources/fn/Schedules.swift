// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnProtocol

struct Schedules: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schedule",
        abstract: "Show when functions run by themselves: `schedules` in function.yaml, in UTC.",
        discussion: "fn schedule ls\nfn schedule ls --function nightly -o json",
        subcommands: [All.self],
        defaultSubcommand: All.self
    )

    struct All: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "ls",
            abstract: "List schedules with their next times, in UTC."
        )
        @Option(help: "Only those of this function.") var function: String?
        @OptionGroup var list: ListOutput
        @OptionGroup var daemon: DaemonAddress

        func run() throws {
            var answer = try daemon.get(ScheduleList.self, "/v1/schedules")
            if let function { answer.schedules.removeAll { $0.function != function } }
            list.show(answer, names: answer.schedules.map { "\($0.function)/\($0.name)" }) {
                var table = Table(header: ["FUNCTION", "SCHEDULE", "WHEN (UTC)", "NEXT", "LAST"])
                table.rows = answer.schedules.map { schedule in
                    [
                        schedule.function, schedule.name, schedule.expression, schedule.next.first ?? "-",
                        schedule.last ?? "-",
                    ]
                }
                return table.text
            }
        }
    }
}
