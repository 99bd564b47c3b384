// SPDX-License-Identifier: Apache-2.0

/// The one image in an archive: its configuration and its layers, lowest first.
struct ImageLayout {
    struct Layer {
        var part: ImageArchive.Part
        var packing: LayerPacking
        /// The digest of the layer unpacked, in hexadecimal.
        var contents: String
    }

    var id: String
    var config: ImageDocuments.Config
    var layers: [Layer]

    private static let mostLayers = 256
    private static let deepestIndex = 4

    /// - Parameter platform: what this host runs, as `linux/amd64`.
    init(_ archive: ImageArchive, platform: String) throws(FunctionsError) {
        if let layout = archive.part("oci-layout"), let index = archive.part("index.json") {
            try self.init(archive, layout: layout, index: index, platform: platform)
        } else if let manifest = archive.part("manifest.json") {
            try self.init(archive, saved: manifest)
        } else {
            throw .imageRefused("it is no OCI layout and no docker archive: it has no index.json and no manifest.json")
        }
        let own = "\(config.os)/\(config.architecture)"
        guard own == platform else { throw .imageRefused("it is for \(own), and this host runs \(platform)") }
        guard config.rootFileSystem.type == "layers" else {
            throw .imageRefused(
                "its root file system is of type '\(config.rootFileSystem.type.prefix(40))', not layers"
            )
        }
    }

    // MARK: OCI

    private init(
        _ archive: ImageArchive,
        layout: ImageArchive.Part,
        index: ImageArchive.Part,
        platform: String
    ) throws(FunctionsError) {
        let version = try ImageDocuments.decode(
            ImageDocuments.Layout.self,
            try archive.contents(layout, what: "oci-layout"),
            what: "oci-layout"
        )
        guard version.imageLayoutVersion.hasPrefix("1.") else {
            throw .imageRefused("its layout is of version '\(version.imageLayoutVersion.prefix(20))': only 1 is known")
        }
        let found = try Self.choose(archive, try archive.contents(index, what: "index.json"), "index.json", platform, 0)
        let descriptor = try Self.only(found, platform)
        let manifest: ImageDocuments.Manifest = try Self.read(archive, descriptor, "its manifest")
        guard ImageTypes.configs.contains(manifest.config.mediaType ?? "") else {
            throw .imageRefused(
                "its configuration is of type '\(manifest.config.mediaType ?? "")': it is no container image"
            )
        }
        let config: ImageDocuments.Config = try Self.read(archive, manifest.config, "its configuration")
        try Self.check(manifest.layers.count, config)
        self.init(
            id: try ImageDocuments.hex(manifest.config.digest),
            config: config,
            layers: try zip(manifest.layers, config.rootFileSystem.layers)
                .map { layer, digest throws(FunctionsError) in
                    let packing = try LayerPacking(mediaType: layer.mediaType)
                    return Layer(
                        part: try archive.blob(layer),
                        packing: packing,
                        contents: try ImageDocuments.hex(digest)
                    )
                }
        )
    }

    private init(id: String, config: ImageDocuments.Config, layers: [Layer]) {
        (self.id, self.config, self.layers) = (id, config, layers)
    }

    private static func read<Document: Decodable>(
        _ archive: ImageArchive,
        _ descriptor: ImageDocuments.Descriptor,
        _ what: String
    ) throws(FunctionsError) -> Document {
        let bytes = try archive.contents(try archive.blob(descriptor), what: what)
        return try ImageDocuments.decode(Document.self, bytes, what: what)
    }

    /// The images in an index, and in those that it names, that say that they are for this host, or do not say.
    private static func choose(
        _ archive: ImageArchive,
        _ bytes: [UInt8],
        _ what: String,
        _ platform: String,
        _ depth: Int
    ) throws(FunctionsError) -> (matching: [ImageDocuments.Descriptor], others: [String]) {
        guard depth < deepestIndex else { throw .imageRefused("an index in it leads to indexes without end") }
        let index = try ImageDocuments.decode(ImageDocuments.Index.self, bytes, what: what)
        var (matching, others): ([ImageDocuments.Descriptor], [String]) = ([], [])
        for descriptor in index.manifests {
            let type = descriptor.mediaType ?? ""
            if let other = descriptor.platform?.text, other != platform {
                others.append(other)
            } else if ImageTypes.manifests.contains(type) {
                matching.append(descriptor)
            } else if ImageTypes.indexes.contains(type) {
                let inner = try archive.contents(try archive.blob(descriptor), what: "an index in it")
                let found = try choose(archive, inner, "an index in it", platform, depth + 1)
                matching += found.matching
                others += found.others
            } else {
                throw .imageRefused("\(what) names something of type '\(type.prefix(80))', which is no image")
            }
        }
        return (matching, others)
    }

    private static func only(
        _ found: (matching: [ImageDocuments.Descriptor], others: [String]),
        _ platform: String
    ) throws(FunctionsError) -> ImageDocuments.Descriptor {
        guard let first = found.matching.first else {
            let others = found.others.filter { $0 != "unknown/unknown" }.joined(separator: ", ")
            throw .imageRefused(
                others.isEmpty ? "it holds no image" : "it is for \(others), and this host runs \(platform)"
            )
        }
        guard found.matching.allSatisfy({ $0.digest == first.digest }) else {
            let names = found.matching.map { $0.annotations?["org.opencontainers.image.ref.name"] ?? $0.digest }
            throw .imageRefused("it holds \(names.count) images (\(names.joined(separator: ", "))): keep one in it")
        }
        return first
    }

    private static func check(_ layers: Int, _ config: ImageDocuments.Config) throws(FunctionsError) {
        guard layers == config.rootFileSystem.layers.count else {
            throw .imageRefused("it has \(layers) layers, and its configuration \(config.rootFileSystem.layers.count)")
        }
        guard layers <= mostLayers else { throw .imageRefused("it has more than \(mostLayers) layers") }
    }

    // MARK: docker save

    private init(_ archive: ImageArchive, saved part: ImageArchive.Part) throws(FunctionsError) {
        let bytes = try archive.contents(part, what: "manifest.json")
        let saved = try ImageDocuments.decode([ImageDocuments.Saved].self, bytes, what: "manifest.json")
        guard let image = saved.first, saved.count == 1 else {
            let names = saved.flatMap { $0.tags ?? [] }.joined(separator: ", ")
            throw .imageRefused("it holds \(saved.count) images (\(names)): save one")
        }
        func file(_ name: String) throws(FunctionsError) -> ImageArchive.Part {
            guard let part = archive.part(name) else { throw .imageRefused("'\(name.prefix(100))' is missing in it") }
            return part
        }
        let document = try file(image.config)
        let stem = image.config.split(separator: "/").last.map { $0.hasSuffix(".json") ? $0.dropLast(5) : $0 } ?? ""
        guard stem == document.sha256 || stem.utf8.count != 64 else {
            throw .imageRefused(
                "its configuration is damaged: its digest is sha256:\(document.sha256), and not \(stem)"
            )
        }
        let config = try ImageDocuments.decode(
            ImageDocuments.Config.self,
            try archive.contents(document, what: "its configuration"),
            what: "its configuration"
        )
        try Self.check(image.layers.count, config)
        self.init(
            id: document.sha256,
            config: config,
            layers: try zip(image.layers, config.rootFileSystem.layers)
                .map { name, digest throws(FunctionsError) in
                    Layer(part: try file(name), packing: .any, contents: try ImageDocuments.hex(digest))
                }
        )
    }
}
