// SPDX-License-Identifier: Apache-2.0
import Units

extension EventHandling {
    /// The `events` section of `function.yaml`.
    init(_ yaml: StrictYAML) throws(FunctionsError) {
        self.init()
        retries = try yaml.value("retries", Manifest.form("events.retries")) { text in
            Int(text).flatMap { (0...100).contains($0) ? $0 : nil }
        }
        maxAgeSeconds = try yaml.value("max_age", Manifest.form("events.max_age")) { text in
            Duration(text: text).map { Int($0.milliseconds / 1000) }.flatMap { (1...604_800).contains($0) ? $0 : nil }
        }
        onSuccess = try Self.destination(yaml, "on_success")
        onFailure = try Self.destination(yaml, "on_failure")
    }

    private static func destination(_ yaml: StrictYAML, _ key: String) throws(FunctionsError) -> String? {
        guard let text = try yaml.string(key) else { return nil }
        do { return try Destination(text).description } catch { throw yaml.problem(error.description, key) }
    }

    /// Takes over what a manifest says; a word that stayed the same keeps its date.
    ///
    /// - Parameter now: milliseconds since 1970.
    package func taking(_ manifest: EventHandling?, now: Int64) -> EventHandling {
        guard var new = manifest else { return self }
        (new.deadLetter, new.modifiedMs) = (deadLetter, modifiedMs)
        if new != self || modifiedMs == nil { new.modifiedMs = now }
        return new
    }
}
