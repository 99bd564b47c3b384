// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The documents of a container image, as far as they matter here (OCI image-spec 1.1; Docker's image spec 1.2).
enum ImageDocuments {
    /// `{"mediaType", "digest": "sha256:…", "size"}`: what another document says of one.
    struct Descriptor: Decodable, Equatable {
        var mediaType: String?
        var digest: String
        var size: Int64
        var platform: Platform?
        var annotations: [String: String]?
    }

    struct Platform: Decodable, Equatable {
        var architecture: String
        var os: String

        var text: String { "\(os)/\(architecture)" }
    }

    /// `index.json`, and what it may name in its turn.
    struct Index: Decodable {
        var manifests: [Descriptor]
    }

    struct Manifest: Decodable {
        var config: Descriptor
        var layers: [Descriptor]
    }

    struct Layout: Decodable {
        var imageLayoutVersion: String
    }

    /// An entry of the `manifest.json` that `docker save` writes; paths are names in the archive.
    struct Saved: Decodable {
        var config: String
        var tags: [String]?
        var layers: [String]

        enum CodingKeys: String, CodingKey {
            case config = "Config"
            case tags = "RepoTags"
            case layers = "Layers"
        }
    }

    struct Config: Decodable {
        struct Process: Decodable {
            var user: String?
            var entrypoint: [String]?
            var command: [String]?
            var environment: [String]?
            var workingDirectory: String?
            var exposedPorts: [String: Anything]?
            var stopSignal: String?

            enum CodingKeys: String, CodingKey {
                case user = "User"
                case entrypoint = "Entrypoint"
                case command = "Cmd"
                case environment = "Env"
                case workingDirectory = "WorkingDir"
                case exposedPorts = "ExposedPorts"
                case stopSignal = "StopSignal"
            }
        }

        struct RootFileSystem: Decodable {
            var type: String
            var layers: [String]

            enum CodingKeys: String, CodingKey {
                case type
                case layers = "diff_ids"
            }
        }

        var architecture: String
        var os: String
        var process: Process?
        var rootFileSystem: RootFileSystem

        enum CodingKeys: String, CodingKey {
            case architecture
            case os
            case process = "config"
            case rootFileSystem = "rootfs"
        }
    }

    struct Anything: Decodable {
        init(from decoder: any Decoder) throws {}
    }

    static func decode<Value: Decodable>(
        _ type: Value.Type,
        _ bytes: [UInt8],
        what: String
    ) throws(FunctionsError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw .imageRefused("\(what) cannot be read: \(Self.text(error))")
        }
    }

    private static func text(_ error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String { path.map(\.stringValue).joined(separator: ".") }
        return switch error as? DecodingError {
        case .keyNotFound(let key, let context): "'\(place(context.codingPath + [key]))' is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "'\(place(context.codingPath))' is of the wrong kind"
        default: "it is no JSON"
        }
    }

    /// The 64 digits of `sha256:…`.
    static func hex(_ digest: String) throws(FunctionsError) -> String {
        let digits = digest.dropFirst("sha256:".count)
        guard digest.hasPrefix("sha256:"), digits.utf8.count == 64,
            digits.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { throw .imageRefused("'\(digest.prefix(80))' is no digest: only sha256: and 64 small digits are known") }
        return String(digits)
    }
}

/// How a layer is packed.
enum LayerPacking: Equatable {
    case none
    case gzip
    case zstd
    /// A docker archive does not say: whichever of these it is.
    case any

    private static let oci = "application/vnd.oci.image.layer.v1.tar"
    private static let docker = "application/vnd.docker.image.rootfs.diff.tar"

    init(mediaType: String?) throws(FunctionsError) {
        self =
            switch mediaType {
            case Self.oci, Self.docker: .none
            case Self.oci + "+gzip", Self.docker + ".gzip": .gzip
            case Self.oci + "+zstd", Self.docker + ".zstd": .zstd
            default:
                throw .imageRefused(
                    "a layer is of type '\(mediaType ?? "")': only tar, tar+gzip and tar+zstd are known, and no foreign "
                        + "layers"
                )
            }
    }
}

enum ImageTypes {
    static let indexes = [
        "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
    static let manifests = [
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
    ]
    static let configs = [
        "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
    ]
}
