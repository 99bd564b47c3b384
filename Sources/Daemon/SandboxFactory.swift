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
        while true {
            guard let catalog = catalog.withLock({ $0 }), let function = catalog.planned(plan) else {
                throw FunctionsError.notFound(plan)
            }
            // What a deployment replaces goes at once, but not from under a sandbox that is being made of it. It may have
            // gone before it was kept; then there is something else to run by now.
            let made = try store.keeping(function.record.digests) { () -> FactoryResult? in
                guard catalog.planned(plan)?.record.digests == function.record.digests else { return nil }
                return try make(id, function, contract, catalog, isProvisioned: isProvisioned)
            }
            if let made { return made }
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
        // More of the processor while the runtime starts; it goes back at the first request for work.
        var limits = SandboxLimits(memoryMax: contract, cpu: function.initCPU)
        limits.io = function.io
        limits.devices = devices
        limits.swapMax = function.swap ?? contract
        limits.cpuWeight = function.cpuWeight
        limits.pids = function.pids
        var spec = SandboxSpec(
            id: id.description,
            template: try template(function),
            codeDirectory: image == nil ? store.directory(function.record.codeSHA256) : nil,
            arguments: image.map { ["/.bridge"] + $0.arguments } ?? runtime.command,
            environment: environment(function, id, isProvisioned: isProvisioned),
            limits: limits,
            tmpSize: function.tmp.value
        )
        if let image { spec.workingDirectory = image.workingDirectory }
        spec.announcedCPU = function.cpus.value
        spec.layersDirectory = function.record.layersDigest.map { store.directory($0) }
        let settings = catalog.settings
        return FactoryResult(
            sandbox: try launcher.launch(spec),
            cpu: function.initCPU,
            initTimeout: function.initTimeout,
            answerLimit: Int(settings.limits.response.count),
            tmp: function.tmp.value,
            identity: FunctionIdentity(
                name: function.name,
                version: function.record.version,
                handler: function.record.spec.handler
            ),
            places: function.perSandbox.value
        )
    }

    private func template(_ function: DeployedFunction) throws(FunctionsError) -> SandboxTemplate {
        let runtime = function.runtime
        if let image = function.record.spec.image {
            let name = "image-\(image.id.prefix(16))"
            return SandboxTemplate(name: name, imageRoot: store.directory(image.id), runtimeDirectory: nil)
        }
        let root = "\(places.images)/\(runtime.image)"
        guard Directory.isDirectory(root) else {
            throw .invalid(
                "the root image '\(runtime.image)' of runtime \(runtime.name) is not below \(places.images); build it with scripts/build-image"
            )
        }
        return SandboxTemplate(name: runtime.name, imageRoot: root, runtimeDirectory: runtime.directory)
    }

    /// What Lambda's runtimes expect to find. Nothing of the daemon's own environment is passed on.
    private func environment(
        _ function: DeployedFunction,
        _ id: SandboxID,
        isProvisioned: Bool
    ) -> [String: String] {
        let name = function.name
        var variables = ["HOME": "/tmp", "TMPDIR": "/tmp", "TZ": ":UTC"]
        if let image = function.record.spec.image {
            variables["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            variables.merge(image.environment) { $1 }
            variables["PWD"] = image.workingDirectory
        } else {
            variables.merge([
                "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LANG": "C.UTF-8",
                "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib", "PWD": "/var/task",
            ]) { $1 }
            variables.merge(function.runtime.environment) { $1 }
        }
        variables.merge(function.environment) { $1 }
        variables.merge([
            "_HANDLER": function.record.spec.handler ?? "", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": function.record.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": String(function.memory.value.mebibytes),
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/\(name)", "AWS_LAMBDA_LOG_STREAM_NAME": id.description,
            "AWS_LAMBDA_INITIALIZATION_TYPE": isProvisioned ? "provisioned-concurrency" : "on-demand",
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
