// SPDX-License-Identifier: Apache-2.0
import CLinux

/// A second lock on what may be written, by path and whatever the mounts, users and capabilities say.
///
/// Reading and executing stay as the mounts have them. Writing works beneath `/tmp`, and into the devices that are there
/// since before; TCP is left alone, as the network namespace has only loopback, on which extensions may listen.
package struct Landlock: Sendable, Equatable {
    /// The version of the interface, from 1.
    package let version: Int
    /// Rights that are refused but where a rule allows them.
    let handled: UInt64
    let scoped: UInt64
    let rules: [Rule]

    struct Rule: Sendable, Equatable {
        let path: String
        let allowed: UInt64
    }

    /// The oldest version that is used: 1 would refuse `rename` from one directory of `/tmp` to another.
    package static let oldest = 2

    /// What this kernel can do; `nil` when it has no landlock, an older one, or starts without it.
    package static func probe() -> Landlock? { Landlock(version: Int(clinux_landlock_abi())) }

    init?(version: Int) {
        guard version >= Self.oldest else { return nil }
        self.version = version
        var changes = Access.writing
        if version >= 3 { changes |= Access.truncate }
        handled = changes | Access.devices | (version >= 5 ? Access.deviceControl : 0)
        // Signals and abstract UNIX sockets end at the sandbox's edge; its namespaces see to that too.
        scoped = version >= 6 ? 0b11 : 0
        rules = [
            Rule(path: "/tmp", allowed: changes),
            Rule(path: "/dev", allowed: handled & (Access.writeFile | Access.truncate | Access.deviceControl)),
        ]
    }

    /// The kernel's bits (include/uapi/linux/landlock.h).
    private enum Access {
        static let writeFile: UInt64 = 1 << 1
        /// Remove directories and files (4, 5), make directories, files, sockets, pipes and links (7 to 10 and 12), and
        /// rename or link from one directory to another (13, since version 2).
        static let writing = writeFile | 1 << 4 | 1 << 5 | 0b1111 << 7 | 1 << 12 | 1 << 13
        /// Make character and block devices: nowhere.
        static let devices: UInt64 = 1 << 6 | 1 << 11
        /// Since version 3.
        static let truncate: UInt64 = 1 << 14
        /// `ioctl` on devices that are opened from then on, since version 5.
        static let deviceControl: UInt64 = 1 << 15
    }
}
