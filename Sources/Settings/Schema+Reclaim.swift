// SPDX-License-Identifier: Apache-2.0
import Units

/// How memory is taken from sandboxes and given to them.
extension Schema {
    static let reclaim: [Setting] = [
        choice(
            "reclaim.mode",
            \.reclaim.mode,
            "auto",
            "auto shrinks idle sandboxes; observe only tells which ones it would (fn why); off leaves them as they are"
        ),
        duration(
            "reclaim.interval",
            \.reclaim.interval,
            "250ms",
            "how often the host's memory and pressure are looked at; ten times a second while it is short"
        ),
        duration(
            "reclaim.idle_after",
            \.reclaim.idleAfter,
            "5s",
            "how long a sandbox is idle before it is frozen and shrunk; learnt from its function's intervals between two fifths and twelve times of this"
        ),
        duration(
            "reclaim.hint_timeout",
            \.reclaim.hintTimeout,
            "100ms",
            "how long a runtime has to give back what it does not need before it is frozen"
        ),
        percent(
            "reclaim.target",
            \.reclaim.target,
            "25%",
            "what a wake may cost, as a share of the function's usual time, before less is taken from its sandboxes; 10 ms are always free"
        ),
        Setting(
            path: "reclaim.refaults",
            form: "a rate such as '4000/s'",
            fallback: "4000/s",
            isLive: true,
            doc: "how many pages a wake may bring back before less is taken from its function's sandboxes",
            shape: .rate,
            read: { text, settings, _ in
                guard text.hasSuffix("/s"), let value = Double(text.dropLast(2)), value >= 0, value < 1e12 else {
                    return false
                }
                settings.reclaim.refaults = value
                return true
            }
        ),
        percent(
            "reclaim.backoff",
            \.reclaim.backoff,
            "50%",
            "how much less that is, each time; a tenth of what can be taken always is"
        ),
        percent(
            "reclaim.step",
            \.reclaim.step,
            "25%",
            from: 1...100,
            "the most of a sandbox's memory that is taken in one step, between which a request is looked for; from 4MiB to 16MiB in any case"
        ),
        bytes("reclaim.floor", \.reclaim.floor, "0B", "what a shrink leaves a sandbox at least"),
        percent(
            "reclaim.swap_stop",
            \.reclaim.swapStop,
            "80%",
            "the share of swap in use above which nothing more is swapped out"
        ),
        percent(
            "reclaim.io_target",
            \.reclaim.ioTarget,
            "50%",
            "the share of time in which tasks of the host wait for disks above which file pages are left alone"
        ),
        percent(
            "reclaim.grow_step",
            \.reclaim.growStep,
            "25%",
            from: 1...1000,
            "by how much memory.max is raised while a call needs more than its memory (memory_burst), as a share of that; at least 32MiB"
        ),
        percent(
            "reclaim.grow_headroom",
            \.reclaim.growHeadroom,
            "25%",
            from: 1...1000,
            "how near to memory.max such a call may come before that is done; at least 32MiB"
        ),
        percent(
            "reclaim.host_pressure.some",
            \.reclaim.hostPressure.some,
            "5%",
            "the share of time in which some task of the host waits for memory above which it is short (orange); yellow at a fifth of it"
        ),
        percent(
            "reclaim.host_pressure.full",
            \.reclaim.hostPressure.full,
            "2%",
            "the same of all tasks at once, above which the host is out of memory (red)"
        ),
        duration("reclaim.host_pressure.over", \.reclaim.hostPressure.over, "250ms", "over how long both are averaged"),
    ]
}
