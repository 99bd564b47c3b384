// SPDX-License-Identifier: Apache-2.0
import Functions
import Linux
import Policy
import Pool

/// Versions, aliases and what is provisioned for them: registry, then catalog. Blocking.
extension Deployments {
    // MARK: Versions

    package func publish(
        _ name: String,
        description: String? = nil,
        expectedRevisionID: String? = nil,
        expectedSHA256: String? = nil
    ) throws(FunctionsError) -> FunctionRecord {
        let version = try registry.publish(
            name,
            description: description,
            expectedRevisionID: expectedRevisionID,
            expectedSHA256: expectedSHA256
        )
        let removed = try catalog.settings.storage.keepVersions.map { count throws(FunctionsError) in
            try registry.trimVersions(of: name, to: count)
        }
        try refresh(name)
        if removed ?? 0 > 0 { try collectGarbage() }
        return version
    }

    package func removeVersion(_ number: String, of name: String) throws(FunctionsError) {
        guard try registry.deleteVersion(number, of: name) else { throw .notFound("\(name):\(number)") }
        try refresh(name)
        try collectGarbage()
    }

    package func versions(of name: String, after number: Int, limit: Int) throws(FunctionsError) -> [FunctionRecord] {
        try registry.versions(of: name, after: number, limit: limit)
    }

    package func registered(_ name: String) throws(FunctionsError) -> RegisteredFunction? {
        try registry.registered(name)
    }

    // MARK: Aliases

    package func create(_ alias: AliasRecord) throws(FunctionsError) -> AliasRecord {
        let alias = try registry.createAlias(alias)
        try refresh(alias.function)
        return alias
    }

    package func updateAlias(
        _ name: String,
        of function: String,
        expectedRevisionID: String?,
        _ change: (inout AliasRecord) throws -> Void
    ) throws(FunctionsError) -> AliasRecord {
        let alias = try registry.updateAlias(name, of: function, expectedRevisionID: expectedRevisionID, change)
        try refresh(function)
        return alias
    }

    /// Nothing is said when there was none.
    package func removeAlias(_ name: String, of function: String) throws(FunctionsError) {
        if try registry.deleteAlias(name, of: function) { try refresh(function) }
    }

    package func aliases(of function: String) throws(FunctionsError) -> [AliasRecord] {
        try registry.aliases(of: function)
    }

    // MARK: Provisioned concurrency

    /// Keeps this many sandboxes of a version, or of an alias's versions, started.
    package func provision(_ record: ProvisionedRecord) throws(FunctionsError) {
        let most = catalog.settings.pools.maxSandboxes
        try registry.provision(record) { registered in try Self.check(record, registered, most: most) }
        try refresh(record.function)
    }

    /// `false` when nothing was provisioned.
    package func unprovision(_ function: String, _ qualifier: String) throws(FunctionsError) -> Bool {
        guard try registry.unprovision(function, qualifier) else { return false }
        try refresh(function)
        return true
    }

    static func check(
        _ record: ProvisionedRecord,
        _ registered: RegisteredFunction,
        most: Int
    ) throws(FunctionsError) {
        let others = registered.provisioned.filter { $0.qualifier != record.qualifier }
        if let alias = registered.aliases[record.qualifier] {
            guard alias.version != FunctionRecord.latest else {
                throw .invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
            }
            guard !others.contains(where: { alias.shares[$0.qualifier] != nil }) else {
                throw .conflict(
                    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
                )
            }
        } else {
            guard registered.versions[record.qualifier] != nil else {
                throw .notFound("\(record.function):\(record.qualifier)")
            }
            let isPointedAt = others.contains { registered.aliases[$0.qualifier]?.shares[record.qualifier] != nil }
            guard !isPointedAt else { throw .conflict("Version is pointed by a Provisioned Concurrency alias") }
        }
        let total = others.reduce(record.requested) { $0 + $1.requested }
        if let reserved = registered.latest.spec.concurrency, total > reserved {
            throw .invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
            )
        }
        guard total <= most else {
            throw .invalid(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [\(most)]."
            )
        }
    }

    // MARK: What is said of a function, a version or an alias

    package func setHandling(_ handling: EventHandling?, of name: String, _ qualifier: String) throws(FunctionsError) {
        if let handling { try checkDestinations(handling, nil, of: name) }
        try registry.set(handling, of: name, qualifier)
        try refresh(name)
    }

    /// - Parameter check: refuses what does not go with what is there, in the same transaction.
    package func setUrl(
        _ url: UrlRecord?,
        of name: String,
        _ qualifier: String,
        check: (UrlRecord?) throws -> Void
    ) throws(FunctionsError) {
        try registry.set(url, of: name, qualifier) { try check($0.urls[qualifier]) }
        try refresh(name)
    }

    // MARK: Layers

    package func publish(
        archive: [UInt8],
        layer: (CodeBundle) -> LayerRecord
    ) throws(FunctionsError) -> LayerRecord {
        try store.store(archive: archive) { code throws(FunctionsError) in try registry.publishLayer(layer(code)) }
    }

    package func layer(_ name: String, _ version: Int) throws(FunctionsError) -> LayerRecord? {
        try registry.layer(name, version)
    }

    package func layers(_ name: String? = nil) throws(FunctionsError) -> [LayerRecord] { try registry.layers(name) }

    package func deleteLayer(_ name: String, _ version: Int) throws(FunctionsError) {
        try registry.deleteLayer(name, version)
        try collectGarbage()
    }

    package func archive(of layer: LayerRecord) -> [UInt8]? { store.archive(layer.sha256) }
}
