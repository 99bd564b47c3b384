// SPDX-License-Identifier: Apache-2.0
import Linux
import Synchronization

/// What became of files that are other ones than last time.
package enum LiveReload: Sendable {
    case accepted
    /// What was good last stays in force.
    case refused(SettingsErrors)
}

/// What is read from files that may change while the daemon runs, such as keys or a certificate.
///
/// A bad version changes nothing: what was good last stays in force, and the problem is kept for who asks.
package final class LiveFiles<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var stamps: [FileStamp?]
        var problem: SettingsErrors?
    }

    private let paths: [String]
    private let read: @Sendable () throws(SettingsErrors) -> Value
    private let state: Mutex<State>

    /// - Parameter read: reads all of `paths`; what it throws here is thrown, later it is only told.
    package init(
        _ paths: [String],
        read: @escaping @Sendable () throws(SettingsErrors) -> Value
    ) throws(SettingsErrors) {
        (self.paths, self.read) = (paths, read)
        // Before reading: what is written meanwhile is another version.
        let stamps = paths.map { FileStamp($0) }
        state = Mutex(State(value: try read(), stamps: stamps))
    }

    package var current: Value { state.withLock { $0.value } }

    /// Why the files' present version is not in force; `nil` when it is.
    package var problem: SettingsErrors? { state.withLock { $0.problem } }

    /// Reads again if a file is another one than last time; `nil` when none is. Blocking, from one thread at a time.
    package func reloadIfChanged() -> LiveReload? {
        let stamps = paths.map { FileStamp($0) }
        guard stamps != state.withLock({ $0.stamps }) else { return nil }
        do throws(SettingsErrors) {
            let value = try read()
            state.withLock { $0 = State(value: value, stamps: stamps) }
            return .accepted
        } catch {
            state.withLock { state in
                state.stamps = stamps
                state.problem = error
            }
            return .refused(error)
        }
    }
}
