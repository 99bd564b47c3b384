// SPDX-License-Identifier: Apache-2.0
import Units

extension Schema {
    /// fn.yaml(5) from its first section on; who prints it knows the date.
    package static var manual: String {
        var page = ManualText()
        page.section("NAME")
        page.line(".Nm fn.yaml")
        page.line(".Nd configuration of the Ebb daemon")
        page.section("DESCRIPTION")
        page.prose(
            """
            The file is read by fnd(8) from /etc/fn/fn.yaml, or from where --config or $FN_CONFIG says. Every key is \
            optional. Flags win over environment variables, which win over the file. The variable of host.memory is \
            $FN_HOST_MEMORY, and so on. The file is watched: a good one is applied at once, a bad one changes nothing, \
            and the daemon's log and `fn doctor` say where it is wrong.
            """
        )
        page.line(".Pp")
        page.prose("Keys with a dot are written as sections:")
        page.example("defaults:\n  memory: 256MiB\n  timeout: 30s")
        page.section("SETTINGS")
        page.line(".Bl -tag -width Ds")
        for setting in settings {
            let fallback = setting.fallback.isEmpty ? "empty" : setting.fallback
            page.item(
                setting.path,
                setting.doc,
                "Value: \(setting.form). Default: \(fallback). Applies \(setting.isLive ? "live" : "at the next start")."
            )
        }
        page.item("defaults.env", "environment variables of every function", "Value: a mapping of names to values.")
        page.item(
            "functions",
            "the operator's word on single functions, by name or by a pattern that ends in *; an exact name beats the "
                + "longest prefix, which beats shorter ones, key by key",
            "Keys of an entry: \(overrideKeys.joined(separator: ", "))."
        )
        page.line(".El")
        page.section("FILES")
        page.line(".Bl -tag -width Ds")
        page.line(".It Pa /etc/fn/fn.yaml")
        page.line(".It Pa /etc/fn/keys.yaml")
        page.prose("tokens and keys of clients, where auth.mode asks for them")
        page.line(".El")
        page.section("EXAMPLES")
        page.example(
            """
            host: {memory: 75%}
            defaults: {memory: 256MiB}
            functions:
              "thumb-*": {memory: 512MiB, min_warm: 2}
              billing:   {memory_low: 64MiB, reclaim: off}
            """
        )
        page.prose("What a file would change, without changing it:")
        page.line(".Pp")
        page.line(".Dl fn config diff new.yaml")
        page.section("SEE ALSO")
        page.line(".Xr fn 1 ,")
        page.line(".Xr function.yaml 5 ,")
        page.line(".Xr fnd 8")
        return page.text
    }
}
