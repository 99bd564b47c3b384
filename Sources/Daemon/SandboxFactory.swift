// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Dispatching
import Functions
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
        let (function, catalog) = try planned(plan)
        let runtime = function.runtime
        var spec = SandboxSpec(
            id: id.description,
            template: try template(runtime),
            codeDirectory: store.directory(function.record.codeSHA256),
            arguments: runtime.command,
            environment: environment(function, id, isProvisioned: isProvisioned),
            limits: limits(function, contract),
            tmpSize: function.tmp.value
        )
        spec.network = function.network.value
        spec.announcedCPU = function.cpus.value
        spec.proc = (function.record.spec.proc ?? runtime.proc).view
        spec.layersDirectory = function.record.layersDigest.map { store.directory($0) }
        spec.hasExtensions = [spec.codeDirectory, spec.layersDirectory].compactMap { $0 }
            .contains { Directory.isDirectory("\($0)/extensions") }
        let settings = catalog.settings
        return FactoryResult(
            sandbox: try launcher.launch(spec),
            cpu: function.initCPU,
            initTimeout: function.initTimeout,
            answerLimit: Int(settings.limits.response.count),
            tmp: function.tmp.value,
            identity: identity(function, isProvisioned: isProvisioned),
            places: function.perSandbox.value
        )
    }

    /// Starts a runtime that is no function's yet.
    private func prewarm(_ name: String, _ id: SandboxID, _ contract: Bytes) throws -> FactoryResult {
        guard let catalog = catalog.withLock({ $0 }), let runtime = catalog.runtime(name) else {
            throw FunctionsError.notFound(name)
        }
        let settings = catalog.settings
        let defaults = settings.defaults
        var limits = SandboxLimits(memoryMax: contract, cpu: max(defaults.initCPUs ?? defaults.cpus, defaults.cpus))
        limits.swapMax = defaults.swap ?? contract
        limits.pids = defaults.pids
        // It is told more, and all that a function may know, when it is one's.
        var variables = Self.places.merging(runtime.environment) { $1 }
        variables["AWS_LAMBDA_RUNTIME_API"] = Self.runtimeAPI
        variables["FN_PREWARMED"] = "1"
        var spec = SandboxSpec(
            id: id.description,
            template: try template(runtime),
            codeDirectory: nil,
            arguments: runtime.command,
            environment: variables,
            limits: limits,
            tmpSize: defaults.tmp
        )
        spec.proc = runtime.proc.view
        return FactoryResult(
            sandbox: try launcher.launch(spec),
            cpu: limits.cpu,
            initTimeout: defaults.initTimeout,
            answerLimit: Int(settings.limits.response.count),
            tmp: defaults.tmp,
            identity: nil,
            places: 1
        )
    }

    /// Makes a prewarmed sandbox a function's: all but what the pool edits.
    func assign(_ sandbox: Sandbox, _ id: SandboxID, _ plan: String) throws -> Assignment {
        let (function, _) = try planned(plan)
        try launcher.furnish(
            sandbox,
            codeDirectory: store.directory(function.record.codeSHA256),
            limits: limits(function, function.memory.value)
        )
        return Assignment(
            identity: identity(function, isProvisioned: false),
            environment: environment(function, id, isProvisioned: false),
            cpu: function.initCPU,
            tmp: function.tmp.value,
            initTimeout: function.initTimeout
        )
    }

    private func planned(_ plan: String) throws -> (DeployedFunction, FunctionCatalog) {
        guard let catalog = catalog.withLock({ $0 }), let function = catalog.planned(plan) else {
            throw FunctionsError.notFound(plan)
        }
        return (function, catalog)
    }

    private func template(_ runtime: RuntimeDefinition) throws -> SandboxTemplate {
        let image = "\(places.images)/\(runtime.image)"
        guard Directory.isDirectory(image) else {
            throw FunctionsError.invalid(
                "the root image '\(runtime.image)' of runtime \(runtime.name) is not below \(places.images); build it with \(places.imageBuilder) \(runtime.image) \(places.images)"
            )
        }
        return SandboxTemplate(name: runtime.name, imageRoot: image, runtimeDirectory: runtime.directory)
    }

    private func limits(_ function: DeployedFunction, _ contract: Bytes) -> SandboxLimits {
        // More of the processor while the runtime starts; it goes back at the first request for work.
        var limits = SandboxLimits(memoryMax: contract, cpu: function.initCPU)
        limits.io = function.io
        limits.devices = devices
        limits.swapMax = function.swap ?? contract
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
        var variables = Self.places.merging(function.runtime.environment) { $1 }
        variables.merge(function.environment) { $1 }
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
