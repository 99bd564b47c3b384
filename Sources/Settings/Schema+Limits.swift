// SPDX-License-Identifier: Apache-2.0
import Units

/// What anyone may ask for, at most.
extension Schema {
    static let limits: [Setting] = [
        bytes("limits.memory", \.limits.memory, "10GiB", least: .mib(4), "the most memory anyone may ask for"),
        cpu("limits.cpus", \.limits.cpus, "16", "the most processor time anyone may ask for"),
        duration("limits.timeout", \.limits.timeout, "15m", "the longest timeout anyone may ask for"),
        int("limits.concurrency", \.limits.concurrency, "1000", 1...100_000, "the most sandboxes of one function"),
        bytes("limits.payload", \.limits.payload, "6MiB", "the largest event"),
        bytes("limits.payload_async", \.limits.payloadAsync, "1MiB", "the largest event that is accepted for later"),
        bytes(
            "limits.queue",
            \.limits.queue,
            "1GiB",
            "what accepted events and kept answers may take on disk; old answers go first, then events are refused"
        ),
        int(
            "limits.delivery_attempts",
            \.limits.deliveryAttempts,
            "10",
            1...1000,
            "how often a destination that is a file or an HTTP address is tried: after one second, then two, up to five minutes"
        ),
        bytes(
            "limits.destination_file",
            \.limits.destinationFile,
            "64MiB",
            least: .kib(4),
            "what a file that is a destination may come to"
        ),
        Setting(
            path: "limits.destination_hosts",
            form: "hosts separated by commas, each with a port where only that one is meant; or empty for none",
            fallback: "loopback",
            isLive: true,
            doc: "where HTTP destinations may be; loopback stands for localhost, 127.0.0.0/8 and ::1",
            shape: .list,
            mayBeEmpty: true,
            read: { text, settings, _ in
                settings.limits.destinationHosts = text
                return !text.contains("/")
            }
        ),
        bytes("limits.response", \.limits.response, "6291556B", "the largest answer of a function"),
        bytes(
            "limits.response_stream",
            \.limits.responseStream,
            "200MiB",
            "the largest answer that a function streams to a caller who takes it as it comes"
        ),
        bytes("limits.code", \.limits.code, "50MiB", "the largest archive of a function's code"),
        bytes("limits.unpacked_code", \.limits.unpackedCode, "250MiB", "the largest code when unpacked"),
        bytes("limits.image", \.limits.image, "4GiB", "the largest container image, as it is uploaded"),
        bytes("limits.unpacked_image", \.limits.unpackedImage, "8GiB", "the largest container image when unpacked"),
        int(
            "limits.image_entries",
            \.limits.imageEntries,
            "500000",
            1...100_000_000,
            "files, directories and links in all layers of a container image together"
        ),
        bytes(
            "limits.image_manifest",
            \.limits.imageManifest,
            "4MiB",
            least: .kib(4),
            "the largest manifest, index or configuration of a container image"
        ),
        bytes("limits.env", \.limits.env, "4KiB", "all environment variables of a function together"),
    ]
}
