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

            `defaults.env` maps names to values that every function receives; a change is live, for sandboxes that are started
            from then on and take the place of the others.

            `functions` holds the operator's word on single functions, by name or by a pattern that ends in `*`; an exact
            name beats the longest prefix, which beats shorter ones, key by key. Its keys: \(overrideKeys.map { "`\($0)`" }.joined(separator: ", ")).

            ```yaml
            functions:
              "thumb-*": {memory: 512MiB, min_warm: 2}
              billing:   {memory_low: 64MiB, reclaim: off}
            ```

            ## Who may use the port

            `auth.mode` says what clients show: `token` is `Authorization: Bearer TOKEN` (`fn` sends `$FN_TOKEN`), `sigv4`
            an AWS signature for the service `lambda`, in the header form that SDKs send, `any` either of the two.
            `/healthz` and `/readyz` stay open. The file that `auth.keys` names belongs to root and is `chmod 0600`:

            ```yaml
            tokens:             # the SHA-256 of each: printf %s TOKEN | sha256sum
              ci: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
            keys:               # AWS access key IDs
              AKIDEXAMPLE: {secret: wJalrXUtnFEMI, name: deploy}
            ```

            It is looked at once a second: a changed file is in force at once, so that taking a line out shuts somebody
            out; a wrong one keeps the last good one in force, and the log and `fn doctor` say where it is wrong.

            A signature is good for five minutes before and after its time. A read (`GET`, `HEAD`) may come again within
            them; anything else counts once. Equal calls within one second have the same signature, and SDKs do not all
            sign what tells them apart: so for five seconds after its first use a signature may come again under another
            `amz-sdk-invocation-id` or attempt, and is a replay after that. Who signs by hand and sends the same twice in
            a second adds such a header. Half a million requests are remembered; with more than that in ten minutes the
            oldest signatures are refused early.

            `http.tls.cert` and `http.tls.key` make the port speak TLS 1.2 and 1.3 only; both files are read again when
            they change, for connections that are made from then on. `fn` speaks plain HTTP: it uses the Unix socket, or
            a tunnel. The page at `/` cannot show a token: it is for loopback, or behind a proxy that adds one.

            """
    }
}
