// SPDX-License-Identifier: Apache-2.0
import Functions
import Glibc
import Linux
import Settings
import Synchronization
import Telemetry
import Units

/// What a deployment brings, whatever door it came through.
package struct Deployment: Sendable {
    package var name: String?
    package var runtime: String?
    package var handler: String?
    package var archive: [UInt8]
    /// What else the caller says; wins over the archive's `function.yaml`.
    package var edit: @Sendable (inout FunctionSpec) throws -> Void

    package init(
        name: String?,
        runtime: String?,
        handler: String?,
        archive: [UInt8],
        edit: @escaping @Sendable (inout FunctionSpec) throws -> Void
    ) {
        self.name = name
        self.runtime = runtime
        self.handler = handler
        self.archive = archive
        self.edit = edit
    }
}

/// Everything that changes what is deployed: code store, registry and catalog, always in that order, so that what is
/// answered is durable and what can be invoked is complete. Blocking.
package final class Deployments: Sendable {
    let registry: FunctionRegistry
    let store: CodeStore
    let catalog: FunctionCatalog
    let runtimes: RuntimeCatalog
    private let log: FunctionLog
    /// Throws why no sandbox can have egress on this host.
    private let requireEgress: @Sendable () throws -> Void
    /// Held from reading the registry to telling the catalog: else the older of two changes might be told last.
    private let telling = Mutex(())
    private let changing = Mutex<Set<String>>([])

    package init(
        registry: FunctionRegistry,
        store: CodeStore,
        runtimes: RuntimeCatalog,
        catalog: FunctionCatalog,
        log: FunctionLog,
        requireEgress: @escaping @Sendable () throws -> Void = {}
    ) {
        self.registry = registry
        self.store = store
        self.runtimes = runtimes
        self.catalog = catalog
        self.log = log
        self.requireEgress = requireEgress
    }

    /// Reads the registry into the catalog; tells which functions cannot run because their runtime is gone.
    package func loadAll() throws(FunctionsError) -> [String] {
        var orphans: [String] = []
        for record in try registry.list() {
            guard let registered = try registry.registered(record.spec.name) else { continue }
            for record in [registered.latest] + registered.versions.values { try putLayersTogether(record) }
            if catalog.put(registered) == nil { orphans.append(record.spec.name) }
        }
        try collectGarbage()
        return orphans
    }

    /// Creates a function, or brings an existing one to what is deployed now.
    package func deploy(
        _ deployment: Deployment
    ) throws(FunctionsError) -> (record: FunctionRecord, created: Bool, codeChanged: Bool) {
        let result = try store.store(archive: deployment.archive) { code throws(FunctionsError) in
            try deploy(deployment, code)
        }
        if result.codeChanged, !result.created { try collectGarbage() }
        return result
    }

    private func deploy(
        _ deployment: Deployment,
        _ code: CodeBundle
    ) throws(FunctionsError) -> (record: FunctionRecord, created: Bool, codeChanged: Bool) {
        let manifest = try readManifest(code)
        guard let name = deployment.name ?? manifest?.name else {
            throw .invalid("the function needs a name: --name NAME, or `name:` in function.yaml")
        }
        let old = try registry.get(name)
        guard let runtime = deployment.runtime ?? manifest?.runtime ?? old?.spec.runtime else {
            throw .invalid(
                "the function needs a runtime: --runtime RUNTIME, or `runtime:` in function.yaml; there are: \(runtimeNames)"
            )
        }
        // What function.yaml cannot say stays as it is: layers, tags.
        var spec = old?.spec ?? FunctionSpec(name: name, runtime: runtime)
        if let manifest { spec.apply(manifest, over: old?.spec, now: WallClock.nowMs()) }
        spec.name = name
        spec.runtime = runtime
        spec.handler = deployment.handler ?? manifest?.handler ?? spec.handler
        spec.image = nil
        spec.httpPort = manifest?.httpPort
        spec = try edited(spec, deployment.edit)
        try check(spec)
        try checkEvents(spec, old?.spec)
        return try write(spec, code, over: old)
    }

    func write(
        _ spec: FunctionSpec,
        _ code: CodeBundle,
        over old: FunctionRecord?
    ) throws(FunctionsError) -> (record: FunctionRecord, created: Bool, codeChanged: Bool) {
        try store.checkSize(code: code.sha256, layers: spec.layers.map(\.sha256))
        guard let old else { return (try put(try registry.create(spec, code: code)), true, true) }
        let record = try registry.update(spec.name, code: code) { $0 = spec }
        return (try put(record), false, old.codeSHA256 != record.codeSHA256)
    }

    /// What is to be said of the sizes of all functions together: they may come to more than the host has, as few run at
    /// once, but not to any amount.
    package var overcommitment: String? {
        let host = catalog.settings.host
        let functions = catalog.all
        if let large = functions.first(where: { $0.memory.value > host.memory }) {
            return
                "\(large.name) is to have \(large.memory.value.rounded), more than host.memory, \(host.memory.rounded): "
                + "it can never run"
        }
        let sum = functions.reduce(Bytes.zero) { $0 + $1.memory.value }
        guard sum > host.memory * host.overcommit else { return nil }
        return
            "the sizes of all \(functions.count) functions come to \(sum.rounded), more than \(host.overcommit) times "
            + "host.memory, \(host.memory.rounded) (host.overcommit): many at once will wait for each other"
    }

    /// Creates a function that may not exist yet.
    package func create(_ spec: FunctionSpec, archive: [UInt8]) throws(FunctionsError) -> FunctionRecord {
        try check(spec)
        try checkEvents(spec, nil)
        guard try registry.get(spec.name) == nil else { throw .alreadyExists(spec.name) }
        return try store.store(archive: archive) { code throws(FunctionsError) in
            try withLayers(of: spec, over: code.sha256) { () throws(FunctionsError) in
                try put(try registry.create(spec, code: code))
            }
        }
    }

    /// Changes what is said about a function; sizes reach its living sandboxes at once.
    package func update(
        _ name: String,
        expectedRevisionID: String? = nil,
        _ edit: @escaping @Sendable (inout FunctionSpec) throws -> Void
    ) throws(FunctionsError) -> FunctionRecord {
        guard let old = try registry.get(name) else { throw .notFound(name) }
        let wanted = try edited(old.spec, edit)
        try check(wanted)
        try checkEvents(wanted, old.spec)
        let code = wanted.layers == old.spec.layers ? nil : old.codeSHA256
        return try withLayers(of: wanted, over: code) { () throws(FunctionsError) in
            try put(try registry.update(name, expectedRevisionID: expectedRevisionID, edit))
        }
    }

    /// Changes a function's code; sandboxes that run the old one finish their request and end.
    package func updateCode(
        _ name: String,
        expectedRevisionID: String? = nil,
        archive: [UInt8]
    ) throws(FunctionsError) -> FunctionRecord {
        guard let old = try registry.get(name) else { throw .notFound(name) }
        try Self.checkPacked(old)
        let record = try store.store(archive: archive) { code throws(FunctionsError) in
            try store.checkSize(code: code.sha256, layers: old.spec.layers.map(\.sha256))
            return try put(try registry.update(name, expectedRevisionID: expectedRevisionID, code: code))
        }
        if record.codeSHA256 != old.codeSHA256 { try collectGarbage() }
        return record
    }

    /// What `updateCode` would come to; everything is checked and nothing is changed.
    package func tryCode(
        _ name: String,
        expectedRevisionID: String?,
        archive: [UInt8]
    ) throws(FunctionsError) -> FunctionRecord {
        guard var record = try registry.get(name) else { throw .notFound(name) }
        if let expectedRevisionID, expectedRevisionID != record.revisionID { throw .revisionMismatch(name: name) }
        try Self.checkPacked(record)
        (record.codeSHA256, record.codeSize) = try store.store(archive: archive) { ($0.sha256, $0.archiveSize) }
        try collectGarbage()
        return record
    }

    package func remove(_ name: String) throws(FunctionsError) {
        guard try registry.delete(name) else { throw .notFound(name) }
        _ = try refresh(name)
        log.remove(name)
        try collectGarbage()
    }

    // MARK: What belongs to each change

    /// Brings the catalog to what the registry says of a function; `nil` when it cannot be invoked.
    @discardableResult
    func refresh(_ name: String) throws(FunctionsError) -> DeployedFunction? {
        let result = telling.withLock { _ -> Result<DeployedFunction?, FunctionsError> in
            do throws(FunctionsError) {
                guard let registered = try registry.registered(name) else {
                    catalog.remove(name)
                    return .success(nil)
                }
                return .success(catalog.put(registered))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    func collectGarbage() throws(FunctionsError) {
        try store.collectGarbage { () throws(FunctionsError) in try registry.digests() }
    }

    /// - Parameter code: what they are used with, where that has not been checked yet.
    private func withLayers<Result>(
        of spec: FunctionSpec,
        over code: String? = nil,
        _ body: () throws(FunctionsError) -> Result
    ) throws(FunctionsError) -> Result {
        let layers = spec.layers.map(\.sha256)
        return try store.merge(layers: layers) { () throws(FunctionsError) in
            if let code { try store.checkSize(code: code, layers: layers) }
            return try body()
        }
    }

    private func putLayersTogether(_ record: FunctionRecord) throws(FunctionsError) {
        try withLayers(of: record.spec) { () throws(FunctionsError) in }
    }

    /// Runs a change that nobody else may interrupt; a second one meanwhile is refused, as Lambda does.
    package func alone<Result>(
        with name: String,
        _ body: () throws -> Result
    ) throws -> Result {
        guard changing.withLock({ $0.insert(name).inserted }) else { throw FunctionsError.busy(name) }
        defer { changing.withLock { _ = $0.remove(name) } }
        return try body()
    }

    // MARK: Checks

    private var runtimeNames: String { runtimes.all.map(\.name).joined(separator: ", ") }

    func edited(
        _ spec: FunctionSpec,
        _ edit: (inout FunctionSpec) throws -> Void
    ) throws(FunctionsError) -> FunctionSpec {
        var spec = spec
        do { try edit(&spec) } catch { throw error as? FunctionsError ?? .invalid("\(error)") }
        return spec
    }

    private func readManifest(_ code: CodeBundle) throws(FunctionsError) -> Manifest? {
        let text: String
        do throws(SyscallError) { text = try WholeText.read("function.yaml", inside: code.directory) } catch {
            guard error.errno != ENOENT else { return nil }
            throw .invalid("function.yaml cannot be read: \(error.reason)")
        }
        return try Manifest(yaml: text)
    }

    func check(_ spec: FunctionSpec) throws(FunctionsError) {
        try FunctionSpec.checkName(spec.name)
        if let count = spec.perSandbox, !(1...64).contains(count) {
            throw .invalid("per_sandbox: expected a whole number from 1 to 64, got \(count)")
        }
        guard let runtime = runtimes.find(spec.runtime) else {
            throw .invalid("no such runtime: '\(spec.runtime)'; there are: \(runtimeNames)")
        }
        try Self.checkKind(spec, runtime)
        if runtime.handler == .required, spec.handler?.isEmpty ?? true {
            let example = runtime.handlerExample.map { " such as '\($0)'" } ?? ""
            throw .invalid(
                "runtime \(runtime.name) needs a handler\(example): --handler, or `handler:` in function.yaml"
            )
        }
        try checkNetwork(spec)
        let limits = catalog.settings.limits
        if let memory = spec.memory, memory > limits.memory || memory < .mib(4) {
            throw .invalid("memory: \(memory) is not between 4MiB and the operator's limit of \(limits.memory)")
        }
        if let cpus = spec.cpus, cpus > limits.cpus || cpus.millis < 10 {
            throw .invalid("cpus: \(cpus) is not between 0.01 and the operator's limit of \(limits.cpus)")
        }
        if let ms = spec.timeoutMs, ms < 1 || Int64(ms) > limits.timeout.milliseconds {
            throw .invalid(
                "timeout: \(Duration.milliseconds(ms).text) is not between 1ms and the operator's limit of \(limits.timeout.text)"
            )
        }
        try checkCounts(spec)
        let size = spec.env.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 2 }
        guard Int64(size) <= limits.env.count else {
            throw .invalid(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                    + "provided exceeded the \(limits.env) limit. String measured: \(size) bytes"
            )
        }
        for (key, value) in spec.env where value.utf8.contains(0) {
            throw .invalid("env: the value of '\(key)' holds a NUL character, at which a program would take it to end")
        }
        let reserved = spec.env.keys.filter { Self.reserved.contains($0) }.sorted()
        guard reserved.isEmpty else {
            throw .invalid(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                    + "provided contains reserved keys that are currently not supported for modification. Reserved keys "
                    + "used in this request: \(reserved.joined(separator: ", "))"
            )
        }
        for key in spec.env.keys where !Self.isVariable(key) || key.hasPrefix("AWS_LAMBDA_") || key.hasPrefix("_") {
            throw .invalid(
                "env: '\(key)' cannot be set: names are letters, digits and '_', and do not begin with '_' or 'AWS_LAMBDA_'"
            )
        }
    }

    /// What every sandbox has in its environment, whatever its function says.
    private static let reserved: Set = [
        "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
        "MEMORY_PRESSURE_WATCH",
    ]

    private func checkNetwork(_ spec: FunctionSpec) throws(FunctionsError) {
        guard spec.network == .egress else { return }
        guard catalog.settings.network.egress == .allow else {
            throw .invalid(
                "network: the operator refuses egress (network.egress in fn.yaml): deploy it with network none"
            )
        }
        do { try requireEgress() } catch { throw .invalid("network: \(error)") }
    }

    private func checkCounts(_ spec: FunctionSpec) throws(FunctionsError) {
        if let burst = spec.memoryBurst, burst < .zero { throw .invalid("memory_burst: \(burst.count) is below 0") }
        if let tmp = spec.tmp, tmp < .mib(1) { throw .invalid("tmp: \(tmp.count) bytes are less than 1MiB") }
        if let count = spec.concurrency, !(0...100_000).contains(count) {
            throw .invalid("concurrency: \(count) is not between 0 and 100000")
        }
        if let count = spec.minWarm, !(0...10_000).contains(count) {
            throw .invalid("min_warm: \(count) is not between 0 and 10000")
        }
    }

    /// Destinations are looked at when they are named, and no later: a function may go before one that names it.
    func checkEvents(_ spec: FunctionSpec, _ old: FunctionSpec?) throws(FunctionsError) {
        try checkDestinations(spec.events, old?.events, of: spec.name)
    }

    func checkDestinations(_ new: EventHandling, _ old: EventHandling?, of name: String) throws(FunctionsError) {
        let rules = DestinationRules(settings: catalog.settings)
        for (text, before) in [
            (new.onSuccess, old?.onSuccess), (new.onFailure, old?.onFailure), (new.deadLetter, old?.deadLetter),
        ] where text != before {
            guard let text else { continue }
            let destination = try Destination(text)
            if case .function(let other) = destination, other != name, catalog[other] == nil {
                throw .invalid("destination '\(other)': no such function; deploy it first")
            }
            if let problem = rules.problem(destination) { throw .invalid("destination '\(text)': \(problem)") }
        }
    }

    private static func isVariable(_ name: String) -> Bool {
        !name.isEmpty && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
            && name.first?.isNumber == false
    }

    private func put(_ record: FunctionRecord) throws(FunctionsError) -> FunctionRecord {
        guard try refresh(record.spec.name) != nil else { throw .invalid("no such runtime: '\(record.spec.runtime)'") }
        return record
    }

    /// The archive that a function was deployed from.
    package func archive(of record: FunctionRecord) -> [UInt8]? { store.archive(record.codeSHA256) }
    package func record(_ name: String) throws(FunctionsError) -> FunctionRecord? { try registry.get(name) }
    package func records(after marker: String, limit: Int) throws(FunctionsError) -> [FunctionRecord] {
        try registry.list(after: marker, limit: limit)
    }
    /// Where a function's code lies on the host.
    package func codeDirectory(of record: FunctionRecord) -> String { store.directory(record.codeSHA256) }
    /// The name of a runtime by its own name or by Lambda's.
    package func runtimeName(_ name: String) throws(FunctionsError) -> String {
        guard let runtime = runtimes.find(name) else {
            throw .invalid("no such runtime: '\(name)'; there are: \(runtimeNames)")
        }
        return runtime.name
    }
}

extension FunctionSpec {
    /// Takes over what a manifest says; what it leaves open about events stays as it was.
    fileprivate mutating func apply(_ manifest: Manifest, over old: FunctionSpec?, now: Int64) {
        events = (old?.events ?? EventHandling()).taking(manifest.events, now: now)
        schedules = Schedule.taking(manifest.schedules ?? [], over: old?.schedules ?? [], now: now)
        handler = manifest.handler
        description = manifest.description
        memory = manifest.memory
        memoryBurst = manifest.memoryBurst
        cpus = manifest.cpus
        timeoutMs = manifest.timeoutMs
        env = manifest.env ?? [:]
        tmp = manifest.tmp
        concurrency = manifest.concurrency
        minWarm = manifest.minWarm
        perSandbox = manifest.perSandbox
        proc = manifest.proc
        network = manifest.network
    }
}
