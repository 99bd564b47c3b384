// SPDX-License-Identifier: Apache-2.0
import Units

/// One key of `function.yaml`: how its value is written, and what it does. A dot stands for a section.
package struct ManifestKey: Sendable {
    package let path: String
    /// What a value looks like, in words, for errors and the reference pages.
    package let form: String
    package let doc: String
}

extension Manifest {
    /// The one table of keys: what is read, what errors call it, and the pages come from here.
    package static let reference: [ManifestKey] = [
        .init(path: "name", form: "1 to 64 letters, digits, '-' and '_'", doc: "the function's name"),
        .init(path: "runtime", form: "the name of a runtime such as 'python'", doc: "what runs the code"),
        .init(path: "handler", form: "as the runtime has it, such as 'app.handle'", doc: "what of the code is called"),
        .init(path: "description", form: "a text", doc: "for people who read lists"),
        .init(path: "memory", form: "a size such as '256MiB'", doc: "memory.max while it runs"),
        .init(
            path: "memory_burst",
            form: "a size such as '512MiB'",
            doc: "what memory.max may run ahead to while a call needs more than its memory and the host has it"
        ),
        .init(path: "cpus", form: "a number of cores such as '0.5'", doc: "cpu.max, in cores"),
        .init(path: "timeout", form: "a duration such as '30s'", doc: "time limit of one invocation"),
        .init(path: "env", form: "a mapping of names to values", doc: "environment variables"),
        .init(path: "tmp", form: "a size such as '64MiB'", doc: "size of /tmp, counted as memory"),
        .init(path: "concurrency", form: "a whole number", doc: "sandboxes of it at once"),
        .init(path: "min_warm", form: "a whole number", doc: "sandboxes of it that are always kept"),
        .init(path: "per_sandbox", form: "a whole number from 1 to 64", doc: "requests at once in one sandbox"),
        .init(
            path: "proc",
            form: ProcWish.expected,
            doc: "what it sees at /proc: its own processes, or memory and processors too; else as its runtime has it"
        ),
        .init(
            path: "network",
            form: "none or egress",
            doc: "what it reaches beyond its sandbox: nothing, or public addresses; else as defaults.network has it"
        ),
        .init(
            path: "http_port",
            form: "a whole number from 1024 to 65535",
            doc: "where it listens inside, if it is an HTTP server (runtime http, or a container image)"
        ),
        .init(
            path: "events.retries",
            form: "a whole number from 0 to 100",
            doc: "attempts after an asynchronous event's first one failed"
        ),
        .init(
            path: "events.max_age",
            form: "a duration from 1s to 7d such as '6h'",
            doc: "how long an asynchronous event is tried before it is given up"
        ),
        .init(path: "events.on_success", form: destination, doc: "who is told of an event that worked"),
        .init(path: "events.on_failure", form: destination, doc: "who is told of an event that was given up"),
        .init(
            path: "schedules.cron",
            form: "five fields or words as in crontab(5), in UTC; or such as 'rate(5 minutes)'",
            doc: "when it runs by itself; schedules is a list"
        ),
        .init(path: "schedules.name", form: "1 to 64 letters, digits, '-' and '_'", doc: "what the schedule is called"),
        .init(path: "schedules.input", form: "any value", doc: "the event; else one that names the schedule"),
    ]

    private static let destination =
        "a function's name or ARN, 'file:///PATH' below storage.destinations, or 'http://HOST' of limits.destination_hosts"

    /// The keys of a section; those at the top, sections included, without one.
    static func keys(of section: String? = nil) -> [String] {
        var keys: [String] = []
        for key in reference {
            let parts = key.path.split(separator: ".").map { String($0) }
            guard section == nil || parts.count == 2 && parts[0] == section else { continue }
            let name = section == nil ? parts[0] : parts[1]
            if !keys.contains(name) { keys.append(name) }
        }
        return keys
    }

    /// What a key's value looks like.
    static func form(_ path: String) -> String { reference.first { $0.path == path }?.form ?? "" }

    /// The reference page, `docs/function-yaml.md`.
    package static var markdown: String {
        var page = """
            # function.yaml

            Beside a function's code. Every key is optional; the command line wins over it, and the operator's `functions` in
            `fn.yaml` over both. An unknown key or a wrong unit is an error with its line and column.
            This page is generated from `Sources/Functions/Manifest+Reference.swift`.

            | key | value | meaning |
            |---|---|---|

            """
        for key in reference { page += "| `\(key.path)` | \(key.form) | \(key.doc) |\n" }
        return page + "\n```yaml\n\(example)\n```\n"
    }

    /// function.yaml(5) from its first section on; who prints it knows the date.
    package static var manual: String {
        var page = ManualText()
        page.section("NAME")
        page.line(".Nm function.yaml")
        page.line(".Nd what a function is, beside its code")
        page.section("DESCRIPTION")
        page.prose(
            """
            The file lies in the directory that `fn deploy` packages. Every key is optional. The command line wins over \
            it, and the operator's functions section in fn.yaml(5) over both. An unknown key or a wrong unit is an error \
            with its line and column.
            """
        )
        page.line(".Bl -tag -width Ds")
        for key in reference { page.item(key.path, key.doc, "Value: \(key.form).") }
        page.line(".El")
        page.section("EXAMPLES")
        page.example(example)
        page.section("SEE ALSO")
        page.line(".Xr fn 1 ,")
        page.line(".Xr crontab 5 ,")
        page.line(".Xr fn.yaml 5 ,")
        page.line(".Xr fnd 8")
        return page.text
    }

    package static let example = """
        name: report
        runtime: python
        handler: report.handle
        memory: 256MiB
        timeout: 30s
        env: {REGION: north}
        events:
          retries: 1
          max_age: 10m
          on_failure: http://127.0.0.1:8080/alerts
        schedules:
          - {cron: "0 3 * * MON-FRI", name: nightly, input: {full: true}}
        """
}
