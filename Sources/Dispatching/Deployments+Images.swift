// SPDX-License-Identifier: Apache-2.0
import Functions
import Settings
import Units

/// A function that is a container image, as it is deployed.
package struct ImageDeployment: Sendable {
    package var name: String
    /// Where the image's program listens as an HTTP server; 0 is nowhere, `nil` is where the image says.
    package var port: Int?
    package var entrypoint: [String] = []
    package var command: [String] = []
    /// What else the caller says.
    package var edit: @Sendable (inout FunctionSpec) throws -> Void

    package init(name: String, edit: @escaping @Sendable (inout FunctionSpec) throws -> Void) {
        (self.name, self.edit) = (name, edit)
    }
}

extension Deployments {
    /// A place for an image to be uploaded to.
    package func stageImage() throws(FunctionsError) -> StagedImage { try store.stageImage() }

    /// Creates a function from an image, or brings an existing one to it.
    package func deploy(
        _ deployment: ImageDeployment,
        _ staged: StagedImage
    ) throws(FunctionsError) -> (record: FunctionRecord, created: Bool, codeChanged: Bool) {
        // What it replaced, or brought in vain, may be gigabytes.
        let result = Result { () throws(FunctionsError) in try register(deployment, staged) }
        try collectGarbage()
        return try result.get()
    }

    private func register(
        _ deployment: ImageDeployment,
        _ staged: StagedImage
    ) throws(FunctionsError) -> (record: FunctionRecord, created: Bool, codeChanged: Bool) {
        let limits = ImageLimits(catalog.settings.limits)
        return try store.store(staged, limits: limits) { image throws(FunctionsError) in
            let old = try registry.get(deployment.name)
            var settings = image.settings
            try settings.override(entrypoint: deployment.entrypoint, command: deployment.command)
            let port = try Self.port(deployment.port, settings)
            // What an image cannot say stays as it is: sizes, variables, tags.
            var spec = old?.spec ?? FunctionSpec(name: deployment.name, runtime: "")
            (spec.runtime, spec.handler, spec.lambdaRuntime) = (port == nil ? "provided" : "http", nil, nil)
            (spec.image, spec.httpPort, spec.layers) = (settings, port, [])
            spec = try edited(spec, deployment.edit)
            try check(spec)
            return try write(spec, image.code, over: old)
        }
    }

    private static func port(_ wanted: Int?, _ image: ImageSettings) throws(FunctionsError) -> Int? {
        if let wanted { return wanted == 0 ? nil : wanted }
        guard image.exposedPorts.count < 2 else {
            let list = image.exposedPorts.map(String.init).joined(separator: ", ")
            throw .invalid(
                "the image exposes ports \(list): name one with --port, or --port 0 if it speaks the Runtime API"
            )
        }
        return image.exposedPorts.first
    }

    static func checkKind(_ spec: FunctionSpec, _ runtime: RuntimeDefinition) throws(FunctionsError) {
        if spec.image != nil {
            guard runtime.name == "http" || runtime.name == "provided" else {
                throw .invalid("function \(spec.name) is an image, and has no runtime \(runtime.name)")
            }
        }
        guard let port = spec.httpPort else { return }
        guard runtime.httpPort != nil else {
            throw .invalid("http_port: runtime \(runtime.name) serves no HTTP: use runtime http")
        }
        // The sandbox's user has no capability to listen below; 9001 is the Runtime API's.
        guard (1024...65_535).contains(port), port != 9001 else {
            throw .invalid(
                "port \(port): expected one from 1024 to 65535, and not 9001, which is taken in every sandbox"
            )
        }
    }

    /// Refuses what needs a function to be an archive.
    static func checkPacked(_ record: FunctionRecord) throws(FunctionsError) {
        guard record.spec.image == nil else {
            throw .invalid("function \(record.spec.name) is a container image: deploy it with fn deploy --image")
        }
    }
}

extension ImageLimits {
    init(_ limits: Settings.Limits) {
        self.init(
            archive: limits.image,
            unpacked: limits.unpackedImage,
            entries: limits.imageEntries,
            manifest: limits.imageManifest
        )
    }
}
