// SPDX-License-Identifier: Apache-2.0

extension Schema {
    /// The reference page, `docs/configuration.md`.
    package static var markdown: String {
        var page = """
            # Configuration

            `/etc/fn/fn.yaml`, or `--config FILE`, or `$FN_CONFIG`. Every key is optional; flags win over `FN_*` variables,
            which win over the file. The file is watched: a good one is applied at once, a bad one changes nothing.
            `fn config diff FILE` says what a file would change; `fn config schema` prints a JSON Schema, with which an
            editor completes and checks it (`# yaml-language-server: $schema=FILE` as its first line).
            This page is generated from the schema in `Sources/Settings/Schema.swift`.

            | setting | default | value | applies | meaning |
            |---|---|---|---|---|

            """
        for setting in settings {
            let applies = setting.isLive ? "live" : "restart"
            page += "| `\(setting.path)` | `\(setting.fallback)` | \(setting.form) | \(applies) | \(setting.doc) |\n"
        }
        return page + """

            `defaults.env` maps names to values that every function receives.

            `functions` holds the operator's word on single functions, by name or by a pattern that ends in `*`; an exact
            name beats the longest prefix. Its keys: \(overrideKeys.map { "`\($0)`" }.joined(separator: ", ")).

            ```yaml
            functions:
              "thumb-*": {memory: 512MiB, min_warm: 2}
              billing:   {memory_low: 64MiB, reclaim: off}
            ```

            """
    }
}
