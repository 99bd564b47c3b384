// SPDX-License-Identifier: Apache-2.0
import Crypto
import Foundation
import Linux
import Testing
import Units

@testable import Functions

@Suite("Container images")
struct ImageTests {
    /// An OCI layout of these layers, as a tar archive.
    private func layout(
        _ layers: [[UInt8]],
        type: String = "application/vnd.oci.image.layer.v1.tar",
        config: String = ""
    ) -> [UInt8] {
        var entries: [UInt8] = Tar.entry("oci-layout", #"{"imageLayoutVersion":"1.0.0"}"#)
        func blob(_ bytes: [UInt8], _ type: String) -> String {
            let digest = Hex.encode(SHA256.hash(data: bytes))
            entries += Tar.entry("blobs/sha256/\(digest)", String(decoding: bytes, as: UTF8.self))
            return #"{"mediaType":"\#(type)","digest":"sha256:\#(digest)","size":\#(bytes.count)}"#
        }
        let (os, architecture) = (
            CodeStore.platform.split(separator: "/")[0], CodeStore.platform.split(separator: "/")[1]
        )
        let contents = layers.map { #""sha256:\#(Hex.encode(SHA256.hash(data: $0)))""# }.joined(separator: ",")
        let document =
            #"{"os":"\#(os)","architecture":"\#(architecture)","rootfs":{"type":"layers","diff_ids":[\#(contents)]},"config":{\#(config)}}"#
        let configuration = blob(Array(document.utf8), "application/vnd.oci.image.config.v1+json")
        let list = layers.map { blob($0, type) }.joined(separator: ",")
        let manifest = blob(
            Array(#"{"config":\#(configuration),"layers":[\#(list)]}"#.utf8),
            "application/vnd.oci.image.manifest.v1+json"
        )
        entries += Tar.entry("index.json", #"{"manifests":[\#(manifest)]}"#)
        return entries + [UInt8](repeating: 0, count: 1024)
    }

    private func store(_ archive: [UInt8], limits: ImageLimits = ImageLimits()) throws -> (ImageBundle, TemporaryState)
    {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        let staged = try store.stageImage()
        try staged.write(archive, at: 0)
        return (try store.store(staged, limits: limits) { $0 }, state)
    }

    private func refusal(_ archive: [UInt8], limits: ImageLimits = ImageLimits()) -> String {
        do {
            _ = try store(archive, limits: limits)
            return "taken"
        } catch {
            return "\(error)"
        }
    }

    @Test("a layout is unpacked to the tree of its layers, under the digest of its configuration")
    func unpacks() throws {
        let layers = [
            Tar.archive(Tar.entry("a", "1"), Tar.entry("d/old", "1"), Tar.entry("gone", "1")),
            Tar.archive(Tar.entry("d/.wh..wh..opq"), Tar.entry("d/new", "2"), Tar.entry(".wh.gone")),
        ]
        let words =
            #""Entrypoint":["/a"],"Cmd":["b"],"Env":["X=1=2"],"WorkingDir":"/w","User":"u","ExposedPorts":{"80/tcp":{},"53/udp":{},"9":{}}"#
        let (image, state) = try store(layout(layers, config: words))
        let tree = "\(state.path)/code/\(image.settings.id)/tree"
        #expect(FileManager.default.subpaths(atPath: tree)?.sorted() == ["a", "d", "d/new", "w"])
        let settings = image.settings
        #expect(settings.arguments == ["/a", "b"])
        #expect(settings.environment == ["X": "1=2"])
        #expect(settings.workingDirectory == "/w")
        #expect(settings.exposedPorts == [9, 80])
        #expect(settings.user == "u")
    }

    @Test("what is said over an image is Docker's way: an entrypoint comes without the image's command")
    func overrides() throws {
        let (image, _) = try store(
            layout([Tar.archive(Tar.entry("a", "1"))], config: #""Entrypoint":["/a"],"Cmd":["b"]"#)
        )
        func arguments(_ entrypoint: [String], _ command: [String]) throws -> [String] {
            var settings = image.settings
            try settings.override(entrypoint: entrypoint, command: command)
            return settings.arguments
        }
        #expect(try arguments([], []) == ["/a", "b"])
        #expect(try arguments([], ["c", "d"]) == ["/a", "c", "d"])
        #expect(try arguments(["/x"], []) == ["/x"])
        #expect(try arguments(["/x"], ["c"]) == ["/x", "c"])
    }

    @Test("the packing of a layer is its media type's, and foreign ones are none")
    func packing() throws {
        #expect(try LayerPacking(mediaType: "application/vnd.oci.image.layer.v1.tar") == .none)
        #expect(try LayerPacking(mediaType: "application/vnd.oci.image.layer.v1.tar+zstd") == .zstd)
        #expect(try LayerPacking(mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip") == .gzip)
        for wrong in [nil, "", "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/x-tar"] {
            #expect(throws: FunctionsError.self) { try LayerPacking(mediaType: wrong) }
        }
    }

    @Test(
        "whiteouts are known by their names",
        arguments: [
            (".wh.a", Whiteout.name([0x61, 0])), (".wh..a", .name([0x2E, 0x61, 0])), (".wh..wh..opq", .opaque),
            (".wh..wh.plnk", .ignored), ("a.wh.b", nil), (".wh", nil),
        ]
    )
    func whiteouts(name: String, meaning: Whiteout?) throws {
        #expect(try Whiteout(name.utf8.map { CChar(bitPattern: $0) } + [0]) == meaning)
    }

    @Test("a name is its parts, and never leads up")
    func names() throws {
        func parts(_ name: String) throws -> [String] {
            try EntryName(name.utf8.map { CChar(bitPattern: $0) } + [0]).parts
                .map { String(decoding: $0.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self) }
        }
        #expect(try parts("/a//./b/") == ["a", "b"])
        #expect(try parts("./") == [])
        #expect(try parts("..a/b..") == ["..a", "b.."])
        for wrong in ["..", "a/..", "/../a", String(repeating: "a/", count: 129), String(repeating: "a", count: 300)] {
            #expect(throws: FunctionsError.self) { try parts(wrong) }
        }
    }

    @Test("digests are of one form")
    func digests() throws {
        let right = String(repeating: "0a", count: 32)
        #expect(try ImageDocuments.hex("sha256:\(right)") == right)
        for wrong in [
            right, "sha512:\(right)", "sha256:\(right.uppercased())", "sha256:\(right)0",
            "sha256:../\(right.dropFirst(3))",
        ] {
            #expect(throws: FunctionsError.self) { try ImageDocuments.hex(wrong) }
        }
    }

    @Test("limits are of all layers together")
    func limits() throws {
        let layer = Tar.archive(Tar.entry("a", String(repeating: "x", count: 2000)), Tar.entry("b", ""))
        let other = Tar.archive(Tar.entry("a", String(repeating: "y", count: 2000)), Tar.entry("b", ""))
        let image = layout([layer, other], config: #""Cmd":["a"]"#)
        #expect(refusal(image) == "taken")
        #expect(refusal(image, limits: ImageLimits(unpacked: Bytes(3999))).contains("unpacked it is larger than"))
        #expect(refusal(image, limits: ImageLimits(entries: 3)).contains("more than 3 entries"))
        #expect(refusal(image, limits: ImageLimits(manifest: Bytes(100))).contains("is larger than \(Bytes(100))"))
    }

    @Test("holes count as what they become on disk, in all files together")
    func holes() {
        let holes = Tar.archive(Tar.entry("a", "x", sparse: 15_000), Tar.entry("b", sparse: 15_000))
        #expect(refusal(holes, limits: ImageLimits(archive: Bytes(20_000))).contains("larger than"))
        let image = layout([holes], config: #""Cmd":["a"]"#)
        #expect(refusal(image, limits: ImageLimits(unpacked: Bytes(29_999))).contains("unpacked it is larger than"))
        #expect(refusal(image, limits: ImageLimits(unpacked: Bytes(30_000))) == "taken")
    }

    @Test("a file has its size, also where it ends in a hole")
    func lastHole() throws {
        let layer = Tar.archive(Tar.entry("a", "x", sparse: 15_000), Tar.entry("b", sparse: 15_000))
        let (image, state) = try store(layout([layer], config: #""Cmd":["a"]"#))
        let files = try ["a", "b"]
            .map { name in
                try Data(contentsOf: URL(filePath: "\(state.path)/code/\(image.settings.id)/tree/\(name)"))
            }
        #expect(files.map(\.count) == [15_000, 15_000])
        #expect(files.map { $0.filter { $0 != 0 } } == [Data("x".utf8), Data()])
    }

    @Test("directories that a name makes on its way count as entries")
    func waysCount() {
        let deep = layout([Tar.archive(Tar.entry("a/b/c/d/e", ""))], config: #""Cmd":["a"]"#)
        #expect(refusal(deep, limits: ImageLimits(entries: 5)) == "taken")
        #expect(refusal(deep, limits: ImageLimits(entries: 4)).contains("more than 4 entries"))
    }

    @Test("a refused image leaves nothing")
    func leavesNothing() throws {
        let state = try TemporaryState()
        let store = try CodeStore(stateDirectory: state.path)
        let staged = try store.stageImage()
        try staged.write(layout([Tar.archive(Tar.entry("../x", "1"))]), at: 0)
        #expect(throws: FunctionsError.self) { try store.store(staged, limits: ImageLimits()) { $0 } }
        staged.remove()
        #expect(try Directory.list("\(state.path)/code").isEmpty)
    }
}
