// SPDX-License-Identifier: Apache-2.0
import CLinux
import Crypto
import Foundation
import Linux
import Units

/// The files of an uploaded image, apart: each under a number of ours, with the digest that it turned out to have.
///
/// ```
/// oci-layout, index.json, blobs/sha256/<digest>…     an OCI layout (image-spec, image-layout.md)
/// manifest.json, <digest>.json, <id>/layer.tar…      what `docker save` writes; newer ones write both
/// ```
struct ImageArchive {
    struct Part {
        var path: String
        var size: Int64
        /// Of what was read, in hexadecimal.
        var sha256: String
    }

    private static let mostEntries = 10_000

    private let directory: String
    private let limits: ImageLimits
    private var parts: [String: Part] = [:]
    /// What all of them come to: more than the archive itself where files in it have holes.
    private var total: Int64 = 0
    /// Names that stand for others: older Docker wrote a layer once and linked to it.
    private var links: [String: String] = [:]

    /// Takes an upload apart.
    ///
    /// - Parameters:
    ///   - upload: a tar archive, packed or not; used up on the way.
    ///   - directory: an empty one.
    init(_ upload: String, into directory: String, limits: ImageLimits) throws(FunctionsError) {
        (self.directory, self.limits) = (directory, limits)
        let most = limits.archive
        let reader = try TarReader(upload, .any, limit: most, tooLarge: .imageTooLarge(limit: most))
        let file = try Self.open(upload)
        var block = [UInt8](repeating: 0, count: 1 << 20)
        var count = 0
        while let entry = try reader.next() {
            count += 1
            guard count <= Self.mostEntries else { throw .imageRefused("it has more than \(Self.mostEntries) files") }
            try take(entry, reader, &block)
            // What has been read is not needed twice: punched out, it does not take the room twice either.
            _ = clinux_forget_start(file.raw, reader.consumed)
        }
        guard !parts.isEmpty else { throw .imageRefused("it is no tar archive, or an empty one") }
    }

    private static func open(_ path: String) throws(FunctionsError) -> Descriptor {
        do throws(SyscallError) { return try Descriptor.open(path, O_RDWR) } catch { throw .storage("\(error)") }
    }

    private mutating func take(_ entry: TarEntry, _ reader: TarReader, _ block: inout [UInt8]) throws(FunctionsError) {
        let name = try EntryName(entry.name)
        let text = Self.text(name)
        switch entry.kind {
        case .directory: return
        case .file: break
        case .symbolicLink(let target):
            links[text] = Self.resolve(target, from: name)
            return
        case .hardLink(let target):
            links[text] = Self.text(try EntryName(target))
            return
        case .other: throw .layerHostile(entry: name.shown, "is no file")
        }
        guard parts[text] == nil else { throw .layerHostile(entry: name.shown, "is there twice") }
        let path = "\(directory)/\(parts.count)"
        guard entry.size <= limits.archive.count - total else { throw .imageTooLarge(limit: limits.archive) }
        var (digest, size) = (SHA256(), Int64(0))
        let file: Descriptor
        do throws(SyscallError) {
            let flags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC
            file = Descriptor(owning: try SyscallError.check("open", path, unsafe Glibc.open(path, flags, 0o600)))
        } catch {
            throw WholeFile.problem(error, at: directory)
        }
        while true {
            let count = try reader.read(into: &block)
            guard count > 0 else { break }
            digest.update(data: block[..<count])
            size += Int64(count)
            total += Int64(count)
            guard total <= limits.archive.count else { throw .imageTooLarge(limit: limits.archive) }
            try WholeFile.write(block, count: count, to: file.raw, directory)
        }
        parts[text] = Part(path: path, size: size, sha256: Hex.encode(digest.finalize()))
    }

    private static func text(_ name: EntryName) -> String {
        String(decoding: name.path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Where a link leads, by names alone.
    private static func resolve(_ target: [CChar], from name: EntryName) -> String {
        var parts = text(name).split(separator: "/").dropLast().map(String.init)
        for part in String(decoding: target.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: "/")
        where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }

    func part(_ name: String) -> Part? { parts[name] ?? links[name].flatMap { parts[$0] } }

    /// A small file, whole.
    func contents(_ part: Part, what: String) throws(FunctionsError) -> [UInt8] {
        guard part.size <= limits.manifest.count else {
            throw .imageRefused("\(what) is larger than \(limits.manifest) (limits.image_manifest in fn.yaml)")
        }
        guard let data = FileManager.default.contents(atPath: part.path) else { throw .storage("\(part.path) is gone") }
        return [UInt8](data)
    }

    /// What a descriptor names: there, of that size, and of that digest.
    func blob(_ descriptor: ImageDocuments.Descriptor) throws(FunctionsError) -> Part {
        let hex = try ImageDocuments.hex(descriptor.digest)
        guard let part = part("blobs/sha256/\(hex)") else {
            throw .imageRefused("blob \(descriptor.digest) is missing")
        }
        guard part.sha256 == hex else {
            throw .imageRefused("blob \(descriptor.digest) is damaged: its digest is sha256:\(part.sha256)")
        }
        guard part.size == descriptor.size else {
            throw .imageRefused("blob \(descriptor.digest) has \(part.size) bytes, and not \(descriptor.size)")
        }
        return part
    }
}
