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

    /// Looks beside the program, in the checkout it was built in, and in the system's directories.
    package init(_ settings: Settings, environment: [String: String]) {
        let home = Self.directoryOfProgram
        let storage = settings.storage
        runtimes =
            storage.runtimes != "auto"
            ? storage.runtimes
            : environment["FN_RUNTIMES"] ?? Self.upwards(from: home, "Runtimes") ?? "/usr/share/fn/runtimes"
        images = storage.images != "auto" ? storage.images : "\(storage.state)/images"
        initProgram = Self.program("fn-init", beside: home)
        bridgeProgram = Self.program("fn-bridge", beside: home)
    }

    private static func program(_ name: String, beside home: String) -> String {
        let places = ["\(home)/\(name)", "/usr/lib/fn/\(name)"]
        return places.first { KernelFile.exists($0) } ?? places[0]
    }

    private static var directoryOfProgram: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count - 1)
        guard count > 0 else { return "." }
        let path = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)])
    }

    private static func upwards(from directory: String, _ name: String) -> String? {
        var place = directory
        for _ in 0..<6 {
            if Directory.isDirectory("\(place)/\(name)/images") { return "\(place)/\(name)" }
            guard let slash = place.lastIndex(of: "/"), slash != place.startIndex else { return nil }
            place = String(place[..<slash])
        }
        return nil
    }
}
