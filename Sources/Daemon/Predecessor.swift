// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Logging
import NIOCore

/// A daemon that was killed a moment ago and still holds what this one needs.
///
/// A child that it was just making shares its table of descriptors (`CLONE_FILES`), and so its locks and its sockets, until
/// the kernel has taken the memory and the mounts of both apart. That takes as long as the kernel takes: a holder that is
/// known to be dead is waited for, and only one that lives is in the way.
enum Predecessor {
    /// For one that lives, or is not known: it may have been killed and not have noticed yet.
    private static let patience = Duration.seconds(2)
    /// For one that is dead. Nobody should need it; the end of a machine under load may.
    private static let deathbed = Duration.seconds(60)

    /// Who has what this daemon needs, and what to say if that remains so.
    struct Held: Error {
        /// `nil` where the kernel does not tell.
        let by: pid_t?
        let refusal: StartError

        /// Nobody of this number, a zombie, or one on its way there.
        var isDead: Bool { by.map { ProcessState($0)?.isEnding ?? true } ?? false }
    }

    /// Tries again while that throws `Held`, for as long as its holder deserves; then throws its refusal.
    static func outlast<Value>(_ log: Logger, _ body: () throws -> Value) throws -> Value {
        let began = MonotonicClock.now()
        var isTold = false
        while true {
            do {
                return try body()
            } catch let held as Held {
                let waited = Duration.nanoseconds(MonotonicClock.now() - began)
                guard waited < (held.isDead ? deathbed : patience) else { throw held.refusal }
                if !isTold, waited > .seconds(1), held.isDead, let pid = held.by {
                    log.notice("waiting for PID \(pid), which was killed and has not let go of everything")
                    isTold = true
                }
                KernelSleep.milliseconds(10)
            }
        }
    }
}
