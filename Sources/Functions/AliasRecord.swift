// SPDX-License-Identifier: Apache-2.0

/// A name for a version, or for a mixture of versions.
package struct AliasRecord: Codable, Sendable, Equatable {
    package var function: String
    package var name: String
    package var version: String
    package var description: String?
    /// The part of the requests, from 0 to 1, that goes to another version than `version`; the rest is its own.
    package var weights: [String: Double] = [:]
    /// A UUID that is another one after each change.
    package var revisionID = ""

    package init(function: String, name: String, version: String) {
        self.function = function
        self.name = name
        self.version = version
    }

    /// The version that serves a request.
    ///
    /// - Parameter point: where the request falls, at random, from 0 up to 1.
    package func choose(_ point: Double) -> String {
        var passed = 0.0
        for (version, weight) in weights.sorted(by: { $0.key < $1.key }) {
            passed += weight
            if point < passed { return version }
        }
        return version
    }

    package func leads(to version: String) -> Bool { self.version == version || weights[version] != nil }

    /// The part of the requests that each version gets.
    package var shares: [String: Double] {
        let others = weights.values.reduce(0, +)
        return weights.merging([version: max(0, 1 - others)]) { $0 + $1 }
    }

    /// Refuses what is no alias: see the cases.
    package func check() throws(FunctionsError) {
        for (version, weight) in weights.sorted(by: { $0.key < $1.key }) {
            guard (0...1).contains(weight) else {
                throw .invalid("The weight of version \(version) must be between 0.0 and 1.0, not \(weight)")
            }
            guard version != self.version else {
                throw .invalid(
                    "Invalid function version \(version). Function version \(version) is already included in routing configuration."
                )
            }
            guard self.version != FunctionRecord.latest, version != FunctionRecord.latest else {
                throw .invalid("$LATEST is not supported for an alias pointing to more than 1 version")
            }
        }
        // Sums of decimals are not exact.
        guard weights.values.reduce(0, +) <= 1 + 1e-9 else {
            throw .invalid("The sum of AdditionalVersionWeights must not be above 1.0")
        }
    }
}

/// How many sandboxes a version, or an alias, is to have ready.
package struct ProvisionedRecord: Codable, Sendable, Equatable {
    package var function: String
    /// A version's number or an alias's name.
    package var qualifier: String
    package var requested: Int
    package var modifiedMs: Int64

    package init(function: String, qualifier: String, requested: Int, modifiedMs: Int64) {
        self.function = function
        self.qualifier = qualifier
        self.requested = requested
        self.modifiedMs = modifiedMs
    }
}

/// A function with everything that can be invoked of it.
package struct RegisteredFunction: Sendable, Equatable {
    package var latest: FunctionRecord
    /// By number, as text.
    package var versions: [String: FunctionRecord]
    /// By name.
    package var aliases: [String: AliasRecord]
    package var provisioned: [ProvisionedRecord]
    /// What was said of events for a version or an alias, by qualifier.
    package var events: [String: EventHandling]
    /// By qualifier; `$LATEST` for the function itself.
    package var urls: [String: UrlRecord]

    package init(
        latest: FunctionRecord,
        versions: [String: FunctionRecord] = [:],
        aliases: [String: AliasRecord] = [:],
        provisioned: [ProvisionedRecord] = [],
        events: [String: EventHandling] = [:],
        urls: [String: UrlRecord] = [:]
    ) {
        self.latest = latest
        self.versions = versions
        self.aliases = aliases
        self.provisioned = provisioned
        self.events = events
        self.urls = urls
    }

    /// What a qualifier means; of an alias the version that serves most of it. `nil` is what is deployed now.
    package func record(_ qualifier: String?) -> FunctionRecord? {
        guard let qualifier, qualifier != FunctionRecord.latest else { return latest }
        let version = aliases[qualifier]?.version ?? qualifier
        return version == FunctionRecord.latest ? latest : versions[version]
    }

    /// What becomes of events for a qualifier: what was said of it, else what is said of the function, as with everything
    /// that is said of a function as a whole. Dead letters are always the function's.
    package func handling(_ qualifier: String?) -> EventHandling {
        guard var handling = qualifier.flatMap({ events[$0] }) else { return latest.spec.events }
        handling.deadLetter = latest.spec.events.deadLetter
        return handling
    }

    /// How many sandboxes each version is to have ready. An alias's are shared out as its requests are.
    package var provisionedByVersion: [String: Int] {
        var counts: [String: Int] = [:]
        for record in provisioned {
            for (version, count) in self.counts(of: record) { counts[version, default: 0] += count }
        }
        return counts
    }

    package func counts(of record: ProvisionedRecord) -> [String: Int] {
        guard let alias = aliases[record.qualifier] else { return [record.qualifier: record.requested] }
        var counts = alias.weights.mapValues { Int((Double(record.requested) * $0).rounded(.down)) }
        counts[alias.version] = record.requested - counts.values.reduce(0, +)
        return counts
    }
}
