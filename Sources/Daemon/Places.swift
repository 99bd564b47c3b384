// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Settings

/// Where the daemon finds what came with it.
package struct Places: Sendable {
    package var runtimes: String
    package var images: String
    /// The static program that becomes process 1 of each sandbox.
    package var initProgram: String
    /// The static program that starts functions which are programs of their own.
    package var bridgeProgram: String
    /// The script that makes root images.
    package var imageBuilder: String

    /// Looks beside the program, in the checkout it was built in, and in the system's directories.
    package init(_ settings: Settings, environment: [String: String]) {
        let home = Self.directoryOfProgram
        // `make install` and the package put it into PREFIX/bin.
        let prefix = home.hasSuffix("/bin") ? String(home.dropLast(4)) : "/usr"
        let storage = settings.storage
        runtimes =
            storage.runtimes != "auto"
            ? storage.runtimes
            : environment["FN_RUNTIMES"] ?? Self.upwards(from: home, "Runtimes", holding: "images")
                ?? "\(prefix)/share/fn/runtimes"
        images = storage.images != "auto" ? storage.images : "\(storage.state)/images"
        initProgram = Self.program("fn-init", beside: home, prefix)
        bridgeProgram = Self.program("fn-bridge", beside: home, prefix)
        imageBuilder =
            Self.upwards(from: home, "scripts", holding: "build-image").map { "\($0)/build-image" }
            ?? "\(prefix)/lib/fn/build-image"
    }

    private static func program(_ name: String, beside home: String, _ prefix: String) -> String {
        let places = ["\(home)/\(name)", "\(prefix)/lib/fn/\(name)"]
        return places.first { KernelFile.exists($0) } ?? places[0]
    }

    private static var directoryOfProgram: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count - 1)
        guard count > 0 else { return "." }
        let path = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)])
    }

    private static func upwards(from directory: String, _ name: String, holding part: String) -> String? {
        var place = directory
        for _ in 0..<6 {
            if KernelFile.exists("\(place)/\(name)/\(part)") { return "\(place)/\(name)" }
            guard let slash = place.lastIndex(of: "/"), slash != place.startIndex else { return nil }
            place = String(place[..<slash])
        }
        return nil
    }
}
