// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Dispatching
import Functions
import Gateway
import Linux
import Policy
import Pool
import RuntimeAPI
import Sandbox
import Settings
import Synchronization
import Units

/// Turns a deployed function into the description of a sandbox, and starts it.
final class FunctionSandboxes: Sendable {
    private let launcher: SandboxLauncher
    private let places: Places
    private let store: CodeStore
    private let devices: [BlockDevice]
    /// Set once the catalog exists; the pool, which needs this factory, comes before it.
    let catalog = Mutex<FunctionCatalog?>(nil)

    /// - Parameter devices: the disks that code and images are on, for `io.max`.
    init(launcher: SandboxLauncher, places: Places, store: CodeStore, devices: [BlockDevice]) {
        self.devices = devices
        self.launcher = launcher
        self.places = places
        self.store = store
    }

    func make(
        _ id: SandboxID,
        _ plan: String,
        _ contract: Bytes,
        isProvisioned: Bool
    ) throws -> FactoryResult {
        if let runtime = PlanName.runtime(plan) { return try prewarm(runtime, id, contract) }
        return try holding(plan) { function, catalog, hold in
            var made = try make(id, function, contract, catalog, isProvisioned: isProvisioned)
            made.onRemoval = { hold.release() }
            return made
        }
    }

    private func make(
        _ id: SandboxID,
        _ function: DeployedFunction,
        _ contract: Bytes,
        _ catalog: FunctionCatalog,
        isProvisioned: Bool
    ) throws -> FactoryResult {
        let (runtime, image) = (function.runtime, function.record.spec.image)
        let code = image == nil ? store.directory(function.record.codeSHA256) : nil
        let layers = function.record.layersDigest.map { store.directory($0) }
        var spec = SandboxSpec(
            id: id.description,
            template: try template(function),
            codeDirectory: code,
            arguments: image.map { [RuntimeDefinition.bridge] + $0.arguments }
                ?? runtime.command(code: code, layers: layers),
            environment: environment(function, id, isProvisioned: isProvisioned),
            limits: limits(function, contract),
            tmpSize: function.tmp.value
        )
        spec.network = function.network.value
        if let image { spec.workingDirectory = image.workingDirectory }
        spec.announcedCPU = function.cpus.value
        spec.proc = (function.record.spec.proc ?? runtime.proc).view
        spec.layersDirectory = layers
        spec.hasExtensions = [spec.codeDirectory, spec.layersDirectory].compactMap { $0 }
            .contains { Directory.isDirectory("\($0)/extensions") }
        return FactoryResult(
            sandbox: try launcher.launch(spec),
            cpu: function.initCPU,
            initTimeout: function.initTimeout,
            answerLimit: { catalog.responseLimit },
            live: function.live,
            identity: identity(function, isProvisioned: isProvisioned),
            places: function.perSandbox.value
        )
    }

    /// Starts a runtime that is no function's yet.
    private func prewarm(_ name: String, _ id: SandboxID, _ contract: Bytes) throws -> FactoryResult {
        guard let catalog = catalog.withLock({ $0 }), let runtime = catalog.runtime(name) else {
            throw FunctionsError.notFound(name)
        }
        let defaults = catalog.settings.defaults
        var limits = SandboxLimits(memoryMax: contract, cpu: max(defaults.initCPUs ?? defaults.cpus, defaults.cpus))
        let live = LiveLimits(prewarmedAt: contract, defaults)
        (limits.swapMax, limits.cpuWeight, limits.pids) = (live.swap, live.cpuWeight, live.pids)
        limits.ioWeight = live.ioWeight
        // It is told more, and all that a function may know, when it is one's.
        var variables = Self.places.merging(runtime.environment) { $1 }
        variables["AWS_LAMBDA_RUNTIME_API"] = Self.runtimeAPI
        variables["FN_PREWARMED"] = "1"
        var spec = SandboxSpec(
            id: id.description,
            template: try template(runtime),
            codeDirectory: nil,
            arguments: runtime.waitingCommand,
            environment: variables,
            limits: limits,
            tmpSize: live.tmp
        )
        spec.proc = runtime.proc.view
        return FactoryResult(
            sandbox: try launcher.launch(spec),
            cpu: limits.cpu,
            initTimeout: defaults.initTimeout,
            answerLimit: { catalog.responseLimit },
            live: live,
            identity: nil,
            places: 1
        )
    }

    /// Makes a prewarmed sandbox a function's: all but what the pool edits.
    func assign(_ sandbox: Sandbox, _ id: SandboxID, _ plan: String) throws -> Assignment {
        let (function, hold) = try holding(plan) { function, _, hold in
            try launcher.furnish(
                sandbox,
                codeDirectory: store.directory(function.record.codeSHA256),
                limits: limits(function, function.memory.value)
            )
            return (function, hold)
        }
        return Assignment(
            identity: identity(function, isProvisioned: false),
            environment: environment(function, id, isProvisioned: false),
            cpu: function.initCPU,
            announcedCPU: function.cpus.value,
            live: function.live,
            initTimeout: function.initTimeout,
            onRemoval: { hold.release() }
        )
    }

    /// Does something with what a plan runs, which stays there as long as it is held.
    ///
    /// What a deployment replaces goes at once, but not from under a sandbox that runs on it: a program may load more of
    /// itself at any time. It may have gone before it was held; then there is something else to run by now.
    private func holding<Made>(
        _ plan: String,
        _ body: (DeployedFunction, FunctionCatalog, CodeHold) throws -> Made
    ) throws -> Made {
        while true {
            guard let catalog = catalog.withLock({ $0 }), let function = catalog.planned(plan) else {
                throw FunctionsError.notFound(plan)
            }
            let hold = store.hold(function.record.digests)
            guard catalog.planned(plan)?.record.digests == function.record.digests else { continue }
            return try body(function, catalog, hold)
        }
    }

    private func template(_ function: DeployedFunction) throws(FunctionsError) -> SandboxTemplate {
        guard let image = function.record.spec.image else { return try template(function.runtime) }
        let name = "image-\(image.id.prefix(16))"
        return SandboxTemplate(name: name, imageRoot: store.directory(image.id), runtimeDirectory: nil)
    }

    private func template(_ runtime: RuntimeDefinition) throws(FunctionsError) -> SandboxTemplate {
        let image = "\(places.images)/\(runtime.image)"
        guard Directory.isDirectory(image) else {
            throw .invalid(
                "the root image '\(runtime.image)' of runtime \(runtime.name) is not below \(places.images); build it with \(places.imageBuilder) \(runtime.image) \(places.images)"
            )
        }
        return SandboxTemplate(name: runtime.name, imageRoot: image, runtimeDirectory: runtime.directory)
    }

    private func limits(_ function: DeployedFunction, _ contract: Bytes) -> SandboxLimits {
        // More of the processor while the runtime starts; it goes back at the first request for work.
        var limits = SandboxLimits(memoryMax: contract, cpu: function.initCPU)
        (limits.io, limits.ioWeight) = (function.io, function.ioWeight)
        limits.devices = devices
        limits.swapMax = function.live.swap
        limits.cpuWeight = function.cpuWeight
        limits.pids = function.pids
        return limits
    }

    private func identity(_ function: DeployedFunction, isProvisioned: Bool) -> FunctionIdentity {
        var identity = FunctionIdentity(
            name: function.name,
            version: function.record.version,
            handler: function.record.spec.handler
        )
        identity.account = FunctionARN.account
        identity.initialization = Self.initialization(isProvisioned)
        identity.runtime = function.runtime.name
        identity.logsJSON = function.record.spec.logging?.format == "JSON"
        return identity
    }

    private static func initialization(_ isProvisioned: Bool) -> String {
        isProvisioned ? "provisioned-concurrency" : "on-demand"
    }

    /// Where things are inside, for every runtime.
    private static let places = [
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LANG": "C.UTF-8", "TZ": ":UTC", "HOME": "/tmp",
        "TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib", "PWD": "/var/task",
    ]
    private static let runtimeAPI = "127.0.0.1:9001"

    /// What Lambda's runtimes expect to find. Nothing of the daemon's own environment is passed on.
    private func environment(
        _ function: DeployedFunction,
        _ id: SandboxID,
        isProvisioned: Bool
    ) -> [String: String] {
        let name = function.name
        var variables: [String: String]
        if let image = function.record.spec.image {
            variables = [
                "HOME": "/tmp", "TMPDIR": "/tmp", "TZ": ":UTC",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ]
            variables.merge(image.environment) { $1 }
            variables["PWD"] = image.workingDirectory
        } else {
            variables = Self.places.merging(function.runtime.environment) { $1 }
        }
        variables["AWS_XRAY_CONTEXT_MISSING"] = "LOG_ERROR"
        variables.merge(function.environment) { $1 }
        // Lambda's word for a runtime of its own; a program that brings all of it has none.
        let spec = function.record.spec
        let runtime = spec.lambdaRuntime ?? spec.runtime
        let isManaged = spec.image == nil && !function.runtime.lambdaNames.isEmpty && !runtime.hasPrefix("provided")
        // The daemon's own word: whoever has it waits for a function.
        variables["FN_PREWARMED"] = nil
        variables["AWS_EXECUTION_ENV"] = isManaged ? "AWS_Lambda_\(runtime)" : nil
        variables.merge([
            "_HANDLER": function.record.spec.handler ?? "", "AWS_LAMBDA_RUNTIME_API": Self.runtimeAPI,
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": function.record.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": String(function.memory.value.mebibytes),
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/\(name)", "AWS_LAMBDA_LOG_STREAM_NAME": id.description,
            "AWS_LAMBDA_INITIALIZATION_TYPE": Self.initialization(isProvisioned),
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
            "MEMORY_PRESSURE_WATCH": "/run/fn/pressure", "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
        ]) { $1 }
        // The second is what platforms that run HTTP servers have agreed on.
        if let port = function.record.spec.httpPort ?? function.runtime.httpPort {
            variables["FN_HTTP_PORT"] = String(port)
            variables["PORT"] = String(port)
        } else {
            variables["FN_HTTP_PORT"] = nil
        }
        // Runtimes that can do several at once start as many processes, or threads.
        if function.perSandbox.value > 1 {
            variables["AWS_LAMBDA_MAX_CONCURRENCY"] = String(function.perSandbox.value)
        }
        return variables
    }
}

extension ProcWish {
    fileprivate var view: ProcView {
        switch self {
        case .minimal: .minimal
        case .masked: .masked
        }
    }
}
