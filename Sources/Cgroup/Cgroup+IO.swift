// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Units

/// What a group may read from and write to a disk; `nil` is no limit.
package struct IOLimits: Sendable, Equatable {
    /// Bytes a second.
    package var read: Bytes?
    package var write: Bytes?

    package init(read: Bytes? = nil, write: Bytes? = nil) {
        self.read = read
        self.write = write
    }

    package static let none = IOLimits()
}

/// A whole disk, by its number: `8:0`. Limits do not work on partitions.
package struct BlockDevice: Sendable, Equatable, CustomStringConvertible {
    package let description: String

    /// The disk that a directory lives on; `nil` when that is no disk, as with tmpfs or overlayfs.
    package init?(of path: String) {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return nil }
        let (major, minor) = (Self.major(info.st_dev), Self.minor(info.st_dev))
        let link = "/sys/dev/block/\(major):\(minor)"
        guard major != 0, KernelFile.exists(link) else { return nil }
        // A partition's directory lies inside that of its disk.
        let whole = KernelFile.exists("\(link)/partition") ? "\(link)/../dev" : "\(link)/dev"
        guard let number = try? KernelFile.read(whole) else { return nil }
        description = String(number.dropLast(while: \.isNewline))
    }

    /// The disks that these directories live on, each once.
    package static func all(_ paths: [String]) -> [BlockDevice] {
        paths.compactMap { BlockDevice(of: $0) }
            .reduce(into: []) { known, device in if !known.contains(device) { known.append(device) } }
    }

    // glibc's own are macros.
    private static func major(_ device: dev_t) -> UInt { (device >> 8 & 0xfff) | (device >> 32 & ~0xfff) }
    private static func minor(_ device: dev_t) -> UInt { (device & 0xff) | (device >> 12 & ~0xff) }
}

/// The io controller.
extension Cgroup {
    /// Bandwidth to one disk, at once. Does nothing where the host has no io controller.
    package func setIOMax(_ device: BlockDevice, _ limits: IOLimits) throws(CgroupError) {
        let words = [("rbps", limits.read), ("wbps", limits.write)]
            .map { "\($0)=\($1.map { String($0.count) } ?? "max")" }
        try write(.io, "io.max", "\(device) \(words.joined(separator: " "))")
    }

    /// The share of a disk's time against siblings when all want it, 1 to 10000; 100 is the kernel's default. Does
    /// nothing where the host has no io controller, or one without weights.
    package func setIOWeight(_ weight: Int) throws(CgroupError) {
        guard KernelFile.exists("io.weight", at: directory) else { return }
        try write(.io, "io.weight", "default \(weight)")
    }

    /// `io.max` as the kernel has it; `nil` when nothing is limited.
    package func ioMax() -> String? { measure(.io, "io.max") }
}
