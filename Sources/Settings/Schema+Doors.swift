// SPDX-License-Identifier: Apache-2.0
import Units

/// Where requests come in, and who is let in.
extension Schema {
    static let doors: [Setting] = [
        Setting(
            path: "http.listen",
            form: "an address such as '127.0.0.1:9000'",
            fallback: "127.0.0.1:9000",
            isLive: false,
            doc: "where HTTP is served; any other address than loopback needs auth.mode",
            read: { text, settings, _ in
                settings.http.listen = text
                return isAddress(text)
            }
        ),
        Setting(
            path: "http.hosts",
            form: "names separated by commas",
            fallback: "",
            isLive: true,
            doc: "names, beside addresses and localhost, under which clients may reach the daemon, as behind a proxy",
            shape: .list,
            mayBeEmpty: true,
            read: { text, settings, _ in
                settings.http.hosts = text
                return !text.contains("/")
            }
        ),
        duration("http.read_timeout", \.http.readTimeout, "30s", live: false, "how long a request's body may take"),
        duration(
            "http.idle_timeout",
            \.http.idleTimeout,
            "75s",
            live: false,
            "how long a connection may be without a complete request head, or take to accept an answer"
        ),
        int("http.max_connections", \.http.maxConnections, "4096", 1...1_000_000, live: false, "connections at once"),
        bytes(
            "http.max_header",
            \.http.maxHeader,
            "80KiB",
            least: .kib(4),
            live: false,
            "all header fields of a request together; there may be 256 of them"
        ),
        file("http.tls.cert", \.http.tlsCertificate, "the certificate chain, PEM; read again when it changes"),
        file(
            "http.tls.key",
            \.http.tlsKey,
            "its private key, PEM, not readable by others; with both, the port speaks TLS 1.2 and 1.3 only"
        ),
        string("socket.path", \.socket.path, "/run/fn/fn.sock", "the Unix socket that fn talks to"),
        Setting(
            path: "socket.mode",
            form: "file permissions such as '0660'",
            fallback: "0660",
            isLive: false,
            doc: "permissions of the Unix socket",
            read: { text, settings, _ in
                settings.socket.mode = text
                return text.count == 4 && UInt32(text, radix: 8) != nil
            }
        ),
        Setting(
            path: "socket.group",
            form: "the name of a group, or auto",
            fallback: "auto",
            isLive: false,
            doc: "whose group the Unix socket is; auto is fn where the host has that group, else the daemon's own",
            read: { text, settings, _ in
                settings.socket.group = text == "auto" ? nil : text
                return !text.isEmpty
            }
        ),
    ]

    /// A host and a port.
    static func isAddress(_ text: String) -> Bool {
        guard let colon = text.lastIndex(of: ":") else { return false }
        return UInt16(text[text.index(after: colon)...]) != nil && colon != text.startIndex
    }

    static let auth: [Setting] = [
        choice(
            "auth.mode",
            \.auth.mode,
            "none",
            live: false,
            "what clients of the port show: nothing, a bearer token, an AWS signature (sigv4), or any of the two; the Unix socket is guarded by socket.mode"
        ),
        string(
            "auth.keys",
            \.auth.keys,
            "/etc/fn/keys.yaml",
            "the file with tokens and keys, root's own and not readable by others; read again when it changes"
        ),
        Setting(
            path: "auth.open_urls",
            form: "true or false",
            fallback: "false",
            isLive: true,
            doc: "whether a function may open its own address to everybody (AuthType NONE of its FunctionUrlConfig)",
            shape: .words(["true", "false"]),
            read: { text, settings, _ in
                settings.auth.openUrls = text == "true"
                return ["true", "false"].contains(text)
            }
        ),
    ]
}
