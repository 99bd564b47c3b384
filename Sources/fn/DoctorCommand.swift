// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import FnClient
import FnProtocol
import Glibc

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check whether this host can run functions."
    )
    @OptionGroup var list: ListOutput
    @OptionGroup var daemon: DaemonAddress

    func run() throws {
        let report = try report()
        list.show(report, names: report.checks.filter { $0.status != .pass }.map(\.name)) {
            report.checks
                .map { check in
                    let line = "\(Self.mark(check.status))  \(check.name): \(check.detail)"
                    return check.status == .pass ? line : line + (check.fix.map { "\n      fix: \($0)" } ?? "")
                }
                .joined(separator: "\n")
        }
        if report.hasFailures { throw ExitCode(Exit.found.rawValue) }
    }

    /// The running daemon's report; without one, what its program finds.
    private func report() throws -> DoctorReport {
        var answer: HTTPAnswer?
        do throws(ClientError) {
            answer = try (try? daemon.client())?.call("GET", "/v1/doctor")
        } catch {
            Console.error("\(error)")
        }
        if let answer {
            guard answer.status == 200 else { throw daemon.failure(answer) }
            return decode(answer.body)
        }
        return decode(try Siblings.output(["doctor", "-o", "json"]))
    }

    private func decode(_ bytes: [UInt8]) -> DoctorReport {
        (try? JSONText.decode(DoctorReport.self, from: bytes))
            ?? DoctorReport(checks: [
                DoctorCheck("fnd", .fail, "its report could not be read", fix: "install fn and fnd of the same version")
            ])
    }

    private static func mark(_ status: DoctorCheck.Status) -> String {
        let (word, colour) =
            switch status {
            case .pass: ("PASS", 32)
            case .warn: ("WARN", 33)
            case .fail: ("FAIL", 31)
            }
        return Console.hasColour ? "\u{1B}[\(colour)m\(word)\u{1B}[0m" : word
    }
}

extension Siblings {
    /// What `fnd` prints with these arguments.
    static func output(_ arguments: [String]) throws -> [UInt8] {
        var ends: [CInt] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw Failure(.failed, "fn: no pipe") }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        unsafe posix_spawn_file_actions_addclose(&actions, ends[0])
        var pointers = unsafe ([daemon] + arguments).map { unsafe strdup($0) }
        unsafe pointers.append(nil)
        var pid: pid_t = 0
        let result = unsafe posix_spawnp(&pid, daemon, &actions, nil, pointers, environ)
        close(ends[1])
        guard result == 0 else {
            throw Failure(.unreachable, "fn: neither a daemon nor its program \(daemon) is there")
        }
        defer {
            close(ends[0])
            _ = waitpid(pid, nil, 0)
        }
        return (try? Console.readAll(ends[0], "the answer")) ?? []
    }
}
