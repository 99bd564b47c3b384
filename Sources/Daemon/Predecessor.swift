// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Logging

/// A daemon that was killed a moment ago and still holds what this one needs.
///
/// A child that it was just making shares its table of descriptors (`CLONE_FILES`), and so its locks and its sockets, until
/// the kernel has taken the memory and the mounts of both apart. That takes as long as the kernel takes: a holder that is
/// known to be dead is waited for, and only one that lives is in the way.
enum Predecessor {
    /// For one that lives, or is not known: it may have been killed and not have noticed yet.
    private static let patience = Duration.seconds(2)
    /// For one that is dead: much longer than that takes, and twice that is less than what service managers allow a start.
    private static let deathbed = Duration.seconds(30)

    /// Who has what this daemon needs, and what to say if that remains so.
    struct Held: Error {
        /// `nil` where the kernel does not tell.
        let by: pid_t?
        let refusal: StartError

        /// Nobody of this number, a zombie, or one on its way there.
        var isDead: Bool {
            guard let by else { return false }
            return ProcessState(by)?.isEnding ?? (kill(by, 0) != 0 && errno == ESRCH)
        }
    }

    /// Tries again while that throws `Held`, for as long as its holder deserves; then throws its refusal. Throws `stopped`
    /// when the daemon is told to stop meanwhile, by one of the signals that it has blocked.
    static func outlast<Value>(_ log: Logger, _ body: () throws -> Value) throws -> Value {
        let began = MonotonicClock.now()
        var hasSaid = false
        while true {
            do {
                return try body()
            } catch let held as Held {
                let waited = Duration.nanoseconds(MonotonicClock.now() - began)
                guard waited < (held.isDead ? deathbed : patience) else { throw held.refusal }
                if !hasSaid, waited > .seconds(1), held.isDead, let pid = held.by {
                    log.notice("waiting for PID \(pid), which was killed and has not let go of everything")
                    hasSaid = true
                }
                guard !isTold(toStopWithin: 10) else { throw StartError.stopped }
            }
        }
    }

    private static func isTold(toStopWithin milliseconds: Int) -> Bool {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for number in [SIGTERM, SIGINT] { unsafe sigaddset(&signals, number) }
        var time = timespec(tv_sec: 0, tv_nsec: milliseconds * 1_000_000)
        return unsafe sigtimedwait(&signals, nil, &time) > 0
    }
}
