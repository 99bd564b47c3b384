// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Units

/// An image on its way in: a directory that is removed when it is in the store, or given up.
package final class StagedImage: Sendable {
    let directory: String
    private let upload: Descriptor

    fileprivate var uploadPath: String { "\(directory)/upload" }

    fileprivate init(below root: String) throws(FunctionsError) {
        directory = "\(root)/.image-\(UUID().uuidString)"
        do throws(SyscallError) {
            try Directory.make(directory, mode: 0o700)
            let path = "\(directory)/upload"
            let flags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC
            upload = Descriptor(owning: try SyscallError.check("open", path, unsafe open(path, flags, 0o600)))
        } catch {
            // Nobody holds it yet who would remove it.
            _ = unsafe rmdir(directory)
            throw WholeFile.problem(error, at: root)
        }
    }

    /// Writes a piece of the upload to its place.
    package func write(_ bytes: some Collection<UInt8>, at offset: Int64) throws(FunctionsError) {
        var (rest, offset) = (ArraySlice(bytes), offset)
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe pwrite(upload.raw, $0.baseAddress, $0.count, off_t(offset))
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw WholeFile.problem(SyscallError("write", "upload", errno), at: directory) }
            rest = rest.dropFirst(count)
            offset += Int64(count)
        }
    }

    /// Removes what is left of it. Again is fine; who lets go of it without has it removed then.
    package func remove() { try? FileManager.default.removeItem(atPath: directory) }

    deinit { remove() }
}

/// An image as it is kept.
package struct ImageBundle: Sendable {
    package var settings: ImageSettings
    /// What its layers took, as they were uploaded.
    package var size: Int64

    package var code: CodeBundle { CodeBundle(sha256: settings.id, directory: "", archiveSize: size) }
}

/// Container images, by the digest of their configuration: `<state>/code/<sha256>/tree`, unpacked once, shared by all
/// functions that are this image, and swept like any code when there is none.
extension CodeStore {
    /// A place for an upload.
    package func stageImage() throws(FunctionsError) -> StagedImage { try StagedImage(below: root) }

    /// Checks an uploaded image, unpacks it unless it is there, and keeps it at least until `use` has returned.
    package func store<Result>(
        _ staged: StagedImage,
        limits: ImageLimits,
        use: (ImageBundle) throws(FunctionsError) -> Result
    ) throws(FunctionsError) -> Result {
        do throws(SyscallError) { try Directory.make("\(staged.directory)/parts") } catch {
            throw WholeFile.problem(error, at: root)
        }
        let archive = try TarReader.readingUTF8 { () throws(FunctionsError) in
            try ImageArchive(staged.uploadPath, into: "\(staged.directory)/parts", limits: limits)
        }
        let layout = try ImageLayout(archive, platform: Self.platform)
        let settings = try ImageSettings(id: layout.id, layout.config)
        let bundle = ImageBundle(settings: settings, size: layout.layers.reduce(0) { $0 + $1.part.size })
        return try pinning([layout.id]) { () throws(FunctionsError) in
            try keep(layout.id) { whole throws(FunctionsError) in
                try TarReader.readingUTF8 { () throws(FunctionsError) in
                    try Self.unpack(layout, settings.workingDirectory, into: "\(whole)/tree", limits)
                }
            }
            return try use(bundle)
        }
    }

    /// What this host runs, in the words of images.
    static var platform: String {
        #if arch(x86_64)
        "linux/amd64"
        #elseif arch(arm64)
        "linux/arm64"
        #endif
    }

    private static func unpack(
        _ layout: ImageLayout,
        _ workingDirectory: String,
        into tree: String,
        _ limits: ImageLimits
    ) throws(FunctionsError) {
        let root: Descriptor
        do throws(SyscallError) { root = try Descriptor.open(tree, Descriptor.pathOnly | O_DIRECTORY) } catch {
            throw .storage("\(error)")
        }
        var writer = LayerWriter(root: root.raw, path: real(tree), limits: limits)
        for (number, layer) in layout.layers.enumerated() {
            let (most, path) = (limits.unpacked, layer.part.path)
            let reader = try TarReader(path, layer.packing, limit: most, tooLarge: .unpackedImageTooLarge(limit: most))
            try writer.add(reader)
            let digest = try reader.finish()
            guard digest == layer.contents else {
                throw .imageRefused(
                    "layer \(number + 1) unpacks to sha256:\(digest), and not to sha256:\(layer.contents) as its configuration says"
                )
            }
            // What is unpacked need not lie there twice, unless the same layer comes again.
            if !layout.layers[(number + 1)...].contains(where: { $0.part.path == layer.part.path }) {
                unsafe unlink(layer.part.path)
            }
        }
        try writer.makeDirectory(try EntryName(Array(workingDirectory.utf8.map { CChar(bitPattern: $0) }) + [0]))
    }

    private static func real(_ path: String) -> String {
        guard let found = unsafe realpath(path, nil) else { return path }
        defer { unsafe free(found) }
        return unsafe String(cString: found)
    }
}
