// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import NIOCore

/// A daemon that was killed a moment ago and still holds what this one needs.
///
/// A child that it was just making shares its table of descriptors (`CLONE_FILES`), and so its locks and its sockets, until
/// the kernel has taken the memory and the mounts of both apart.
enum Predecessor {
    private static let patience = Duration.seconds(2)

    /// Tries again, for two seconds, what fails because somebody holds it; then it is somebody else who does.
    static func outlast<Value>(
        while isHeld: (any Error) -> Bool = { _ in true },
        _ body: () throws -> Value
    ) throws -> Value {
        let deadline = MonotonicClock.now() + Int64(patience.seconds * 1e9)
        while true {
            do {
                return try body()
            } catch {
                guard isHeld(error), MonotonicClock.now() < deadline else { throw error }
                KernelSleep.milliseconds(10)
            }
        }
    }

    /// Whether a listener failed because its address is taken.
    static func isTaken(_ error: any Error) -> Bool { (error as? IOError)?.errnoCode == EADDRINUSE }
}
