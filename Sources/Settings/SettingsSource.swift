// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Synchronization
import Units

/// One difference between two versions of the settings.
package struct SettingsChange: Sendable, Equatable {
    package var path: String
    package var old: String
    package var new: String
    /// Whether it is in force already; else it waits for a restart.
    package var isApplied: Bool
}

/// What a reload did.
package enum ReloadResult: Sendable, Equatable {
    case accepted([SettingsChange])
    /// Nothing changed; the daemon goes on with the last good settings.
    case refused(SettingsErrors)
}

/// The settings in force, and the file that they are read from again when it changes.
///
/// A bad file changes nothing. Whoever wants to know of a good one is told after it is in force.
package final class SettingsSource: Sendable {
    private struct State {
        var loaded: LoadedSettings
        /// What the daemon started with, which is what holds of whatever waits for a restart.
        let started: LoadedSettings
        var lastResult = ReloadResult.accepted([])
        var stamp: FileStamp?
        var acceptedMs = WallClock.nowMs()
    }

    private let state: Mutex<State>
    private let observers = Mutex<[@Sendable (LoadedSettings, [SettingsChange]) -> Void]>([])
    /// One reload at a time.
    private let turn = Mutex(())
    package let file: String
    private let environment: [String: String]
    private let flags: [String: String]
    private let machine: Machine
    private let isRequired: Bool

    /// - Parameters:
    ///   - file: may be absent unless `isRequired`.
    package init(
        file: String,
        isRequired: Bool,
        environment: [String: String],
        flags: [String: String],
        machine: Machine
    ) throws(SettingsErrors) {
        (self.file, self.environment, self.flags, self.machine) = (file, environment, flags, machine)
        self.isRequired = isRequired
        let text = try Self.read(file, isRequired: isRequired)
        let loaded = try SettingsLoader.load(
            text: text,
            file: file,
            environment: environment,
            flags: flags,
            machine: machine
        )
        state = Mutex(State(loaded: loaded, started: loaded, stamp: FileStamp(file)))
    }

    /// What holds now. Of what waits for a restart, `values` say what was asked for and `settings` what is in force.
    package var current: LoadedSettings { state.withLock { $0.loaded } }

    /// One thing of what holds now. Each request asks for some, and all of them together are much to copy.
    package func read<Value: Sendable>(_ value: (borrowing Settings) -> Value) -> Value {
        state.withLock { value($0.loaded.settings) }
    }

    /// What the last reload did; the settings in force are older than the file when it was refused.
    package var lastResult: ReloadResult { state.withLock { $0.lastResult } }

    /// When the settings in force were last found good, in milliseconds since 1970.
    package var acceptedMs: Int64 { state.withLock { $0.acceptedMs } }

    /// What a file would change of what the daemon runs with, those settings included that already wait for a restart.
    ///
    /// - Parameters:
    ///   - text: the file's contents; `nil` is the daemon's own file as it is now.
    ///   - name: what errors call it.
    package func changes(by text: String?, named name: String) throws(SettingsErrors) -> [SettingsChange] {
        var text = text
        if text == nil { text = try Self.read(file, isRequired: isRequired || state.withLock { $0.stamp != nil }) }
        let new = try SettingsLoader.load(
            text: text,
            file: name,
            environment: environment,
            flags: flags,
            machine: machine
        )
        return Self.changes(from: running, to: new)
    }

    private var running: LoadedSettings {
        state.withLock { state in
            var running = state.loaded
            running.values = zip(state.loaded.values, state.started.values)
                .map { Self.isLive($0.path) ? $0 : $1 }
            running.entries =
                state.loaded.entries.filter { Self.isLive($0.path) }
                + state.started.entries.filter { !Self.isLive($0.path) }
            return running
        }
    }

    package var isRefused: Bool {
        if case .refused = lastResult { true } else { false }
    }

    package func onChange(_ body: @escaping @Sendable (LoadedSettings, [SettingsChange]) -> Void) {
        observers.withLock { $0.append(body) }
    }

    /// Reads the file again and puts it in force if it is good. When this returns, observers have been told.
    @discardableResult
    package func reload() -> ReloadResult {
        turn.withLock { _ in
            let result: ReloadResult
            do throws(SettingsErrors) {
                // One that was there and has gone is no word for what is built in: nobody meant to lift every limit by that.
                let wasThere = state.withLock { state in
                    let old = state.stamp
                    if let new = FileStamp(file) { state.stamp = new }
                    return old != nil
                }
                let text = try Self.read(file, isRequired: isRequired || wasThere)
                let new = try SettingsLoader.load(
                    text: text,
                    file: file,
                    environment: environment,
                    flags: flags,
                    machine: machine
                )
                let started = state.withLock { $0.started }
                result = .accepted(
                    apply(try SettingsLoader.inForce(new, startedWith: started, file: file, machine: machine))
                )
            } catch {
                result = .refused(error)
            }
            state.withLock { state in
                state.lastResult = result
                if case .accepted = result { state.acceptedMs = WallClock.nowMs() }
            }
            return result
        }
    }

    /// Reloads if the file is another one than last time: changed, replaced, or new. A file that has gone changes nothing.
    package func reloadIfChanged() -> ReloadResult? {
        guard let now = FileStamp(file), now != state.withLock({ $0.stamp }) else { return nil }
        return reload()
    }

    private func apply(_ new: LoadedSettings) -> [SettingsChange] {
        let old = current
        var merged = new
        merged.revision = old.revision
        let changes = Self.changes(from: old, to: new)
        guard !changes.isEmpty else {
            state.withLock { $0.loaded.values = new.values }
            return []
        }
        merged.revision += 1
        let accepted = merged
        state.withLock { $0.loaded = accepted }
        for observer in observers.withLock({ $0 }) { observer(accepted, changes) }
        return changes
    }

    private static func byPath(_ entries: [SettingsValue]) -> [String: String] {
        Dictionary(entries.map { ($0.path, $0.text) }) { $1 }
    }

    /// Whether a change of this takes effect at once; the operator's word on a function does, and on what all receive.
    package static func isLive(_ path: String) -> Bool {
        Schema.find(path)?.isLive ?? (path.hasPrefix("functions.") || path.hasPrefix("defaults.env."))
    }

    /// The differences, by path, in the order of the schema; then those of the sections that hold maps.
    package static func changes(from old: LoadedSettings, to new: LoadedSettings) -> [SettingsChange] {
        var changes: [SettingsChange] = []
        for (before, after) in zip(old.values, new.values) where before.text != after.text {
            changes.append(
                SettingsChange(path: after.path, old: before.text, new: after.text, isApplied: isLive(after.path))
            )
        }
        let (before, after) = (byPath(old.entries), byPath(new.entries))
        for path in Set(before.keys).union(after.keys).sorted() where before[path] != after[path] {
            changes.append(
                SettingsChange(
                    path: path,
                    old: before[path] ?? "(none)",
                    new: after[path] ?? "(none)",
                    isApplied: isLive(path)
                )
            )
        }
        return changes
    }

    private static func why(_ error: SyscallError) -> String {
        error.errno == EFBIG
            ? "is larger than \(WholeText.limit >> 20) MiB: a configuration is not, and half of one is not read"
            : "cannot be read: \(error)"
    }

    private static func read(_ file: String, isRequired: Bool) throws(SettingsErrors) -> String? {
        do throws(SyscallError) {
            return try WholeText.read(file)
        } catch {
            guard isRequired || error.errno != ENOENT else { return nil }
            throw SettingsErrors(problems: [SettingsProblem(source: file, message: Self.why(error))])
        }
    }
}
