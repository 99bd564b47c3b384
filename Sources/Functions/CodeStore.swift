// SPDX-License-Identifier: Apache-2.0
import CLinux
import Crypto
import Foundation
import Linux
import Synchronization
import Units

/// Code as it is kept: the archive's digest names it, and unchanged code is not kept twice.
package struct CodeBundle: Sendable, Equatable {
    /// SHA-256 of the archive, in hexadecimal.
    package var sha256: String
    /// The unpacked tree, mounted read-only at `/var/task`.
    package var directory: String
    package var archiveSize: Int64

    /// A digest as Lambda writes it.
    static func base64(hex text: String) -> String {
        let digits = Array(text.utf8)
        let bytes = stride(from: 0, to: digits.count - 1, by: 2)
            .compactMap { UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16) }
        return Data(bytes).base64EncodedString()
    }
}

/// The code of all functions, by content: `<state>/code/<sha256>/{archive,tree}`.
///
/// A bundle is put together beside its place, synced, and renamed into it: it is there whole or not at all. Nobody is told
/// that it is there before its name has reached the disk too.
package final class CodeStore: Sendable {
    let root: String
    private let limitsInForce: Mutex<CodeLimits>
    private var limits: CodeLimits { limitsInForce.withLock { $0 } }
    /// Code that somebody is about to register, and how many are: it is no garbage yet.
    private let pins = Mutex(Pins())
    private let onSweep = Mutex<(@Sendable (_ directory: String) -> Void)?>(nil)

    package init(stateDirectory: String, limits: CodeLimits = CodeLimits()) throws(FunctionsError) {
        root = "\(stateDirectory)/code"
        limitsInForce = Mutex(limits)
        do {
            try Directory.makeAll(root)
            // What a former daemon was in the middle of.
            for name in try Directory.list(root) where name.hasPrefix(".") {
                try FileManager.default.removeItem(atPath: "\(root)/\(name)")
            }
        } catch {
            throw .storage("\(root): \(error)")
        }
    }

    /// Checks, unpacks and keeps an archive (zip, tar, or compressed tar), at least until `use` has returned: by then it
    /// is registered, or garbage.
    package func store<Result>(
        archive: [UInt8],
        use: (CodeBundle) throws(FunctionsError) -> Result
    ) throws(FunctionsError) -> Result {
        let digest = Hex.encode(SHA256.hash(data: archive))
        return try pinning([digest]) { () throws(FunctionsError) in
            try use(try store(archive: archive, digest))
        }
    }

    /// Puts layers together, unless that has been done, and keeps them at least until `use` has returned.
    package func merge<Result>(
        layers: [String],
        use: () throws(FunctionsError) -> Result
    ) throws(FunctionsError) -> Result {
        guard layers.count > 1, let digest = LayerTree.digest(of: layers) else {
            return try pinning(layers) { () throws(FunctionsError) in try use() }
        }
        return try pinning(layers + [digest]) { () throws(FunctionsError) in
            try merge(layers, as: digest)
            return try use()
        }
    }

    func pinning<Result>(
        _ digests: [String],
        _ body: () throws(FunctionsError) -> Result
    ) throws(FunctionsError) -> Result {
        try keeping(digests) { () throws(FunctionsError) in
            let result = try body()
            // A sweep that came before it was registered knew no better.
            pins.withLock { $0.doomed.subtract(digests) }
            return result
        }
    }

    /// Keeps code on disk while `body` runs; what has become garbage meanwhile goes then.
    private func keeping<Result, Failure>(
        _ digests: some Collection<String>,
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let hold = hold(digests)
        defer { hold.release() }
        return try body()
    }

    /// Keeps code on disk until the hold is released, as long as a sandbox that runs on it is there; what has become
    /// garbage meanwhile goes then.
    package func hold(_ digests: some Collection<String>) -> CodeHold {
        pins.withLock { pins in for digest in digests { pins.counts[digest, default: 0] += 1 } }
        return CodeHold(self, Array(digests))
    }

    fileprivate func release(_ digests: [String]) {
        remove(pins.withLock { pins in digests.filter { pins.unpin($0) }.map { takeAway($0) } })
    }

    /// Takes code out of the store, at once and under the lock of the pins; what it is called now is for `remove`, which
    /// takes its time.
    private func takeAway(_ name: String) -> String {
        onSweep.withLock { $0 }?(directory(name))
        let place = "\(root)/.gone-\(UUID().uuidString)"
        return unsafe rename("\(root)/\(name)", place) == 0 ? place : "\(root)/\(name)"
    }

    private func remove(_ places: [String]) {
        for place in places { try? FileManager.default.removeItem(atPath: place) }
    }

    private func merge(_ layers: [String], as digest: String) throws(FunctionsError) {
        try keep(digest) { staging throws(FunctionsError) in
            var tree = LayerTree(root: "\(staging)/tree", limit: limits.unpacked)
            for layer in layers { try tree.add(directory(layer)) }
        }
    }

    private func store(archive: [UInt8], _ digest: String) throws(FunctionsError) -> CodeBundle {
        guard Int64(archive.count) <= limits.archive.count else { throw .archiveTooLarge(limit: limits.archive) }
        try keep(digest) { staging throws(FunctionsError) in
            try Unpacker(limits: limits, root: "\(staging)/tree").unpack(archive)
            try WholeFile.create("\(staging)/archive", archive)
        }
        return CodeBundle(sha256: digest, directory: directory(digest), archiveSize: Int64(archive.count))
    }

    /// Has a bundle put together beside its place, unless it is there, and returns when it has reached the disk under
    /// its name. Whoever calls this has it pinned.
    func keep(
        _ digest: String,
        _ fill: (_ staging: String) throws(FunctionsError) -> Void
    ) throws(FunctionsError) {
        let place = "\(root)/\(digest)"
        let disk = try WholeFile.directory(root)
        if !Directory.isDirectory(place) {
            let staging = "\(root)/.\(digest.prefix(16))-\(UUID().uuidString)"
            defer { try? FileManager.default.removeItem(atPath: staging) }
            try makeStaging(staging)
            try fill(staging)
            try WholeFile.syncFileSystem(of: disk, staging)
            let renamed = pins.withLock { pins in
                guard unsafe rename(staging, place) == 0 else { return errno }
                pins.unsettled.insert(digest)
                return 0
            }
            // Two deployments of the same code may race: the other one's is as good.
            guard renamed == 0 || Directory.isDirectory(place) else {
                throw WholeFile.problem(SyscallError("rename", place, renamed), at: root)
            }
        }
        // Also where it was there: whoever put it there may not have come to this line yet.
        try WholeFile.syncNames(of: disk, root)
        pins.withLock { pins in _ = pins.unsettled.remove(digest) }
    }

    private func makeStaging(_ path: String) throws(FunctionsError) {
        do throws(SyscallError) {
            try Directory.make(path)
            try Directory.make("\(path)/tree")
        } catch {
            throw WholeFile.problem(error, at: path)
        }
    }

    /// Refuses code that is too large together with its layers, though each of them is not.
    package func checkSize(code: String, layers: [String]) throws(FunctionsError) {
        guard !layers.isEmpty else { return }
        var total: Int64 = 0
        do throws(SyscallError) {
            for digest in [code] + layers { total += try LayerTree.size(of: directory(digest)) }
        } catch {
            throw .storage("\(error)")
        }
        guard total <= limits.unpacked.count else {
            throw .combinedTooLarge(limit: limits.unpacked, actual: Bytes(total))
        }
    }

    /// For what is stored from now on.
    package func setLimits(_ limits: CodeLimits) { limitsInForce.withLock { $0 = limits } }

    /// The archive as it was uploaded; `nil` when there is none.
    package func archive(_ sha256: String) -> [UInt8]? {
        FileManager.default.contents(atPath: "\(root)/\(sha256)/archive").map { [UInt8]($0) }
    }

    package func directory(_ sha256: String) -> String { "\(root)/\(sha256)/tree" }

    /// Calls `body` with the directory of each piece of code, or image, that is about to be removed.
    package func onSweep(_ body: @escaping @Sendable (_ directory: String) -> Void) { onSweep.withLock { $0 = body } }

    /// Removes code that nobody uses and nobody holds. What is held goes when the last hold on it is released.
    ///
    /// - Parameter used: asked under the lock of the pins: who registers code in the meantime still has it pinned.
    package func collectGarbage(keeping used: () throws(FunctionsError) -> Set<String>) throws(FunctionsError) {
        let result = pins.withLock { pins -> Result<[String], FunctionsError> in
            do throws(FunctionsError) {
                let used = try used()
                let kept = used.union(pins.counts.keys)
                pins.doomed = kept.subtracting(used)
                let names = (try? Directory.list(root)) ?? []
                return .success(names.filter { !kept.contains($0) && !$0.hasPrefix(".") }.map { takeAway($0) })
            } catch {
                return .failure(error)
            }
        }
        remove(try result.get())
    }
}

/// Code that stays on disk, registered or not, until this is released. Who lets go of it without has it released then.
package final class CodeHold: Sendable {
    private let store: CodeStore
    private let digests: Mutex<[String]>

    fileprivate init(_ store: CodeStore, _ digests: [String]) {
        self.store = store
        self.digests = Mutex(digests)
    }

    /// Removes what nobody wants any more: takes as long as that takes. Again is fine.
    package func release() {
        let digests = digests.withLock { digests in
            defer { digests = [] }
            return digests
        }
        if !digests.isEmpty { store.release(digests) }
    }

    deinit { release() }
}

/// What is no garbage, though nothing that is registered needs it.
private struct Pins {
    var counts: [String: Int] = [:]
    /// What a sweep has left only because it was pinned.
    var doomed: Set<String> = []
    /// What has its name, and nobody knows whether that has reached the disk. Once its sync has failed the next one could
    /// succeed without having written it, so it goes with the last who wanted it.
    var unsettled: Set<String> = []

    /// - Returns: whether it is to go now.
    mutating func unpin(_ digest: String) -> Bool {
        guard let count = counts[digest], count == 1 else {
            counts[digest] = counts[digest].map { $0 - 1 }
            return false
        }
        counts[digest] = nil
        let (isDoomed, isUnsettled) = (doomed.remove(digest) != nil, unsettled.remove(digest) != nil)
        return isDoomed || isUnsettled
    }
}

/// What an archive may hold.
package struct CodeLimits: Sendable {
    package var archive = Bytes.mib(50)
    package var unpacked = Bytes.mib(250)
    package var entries = 20_000

    package init(archive: Bytes = .mib(50), unpacked: Bytes = .mib(250), entries: Int = 20_000) {
        self.archive = archive
        self.unpacked = unpacked
        self.entries = entries
    }
}
