// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import FoundationEssentials
import Glibc
import Linux
import Policy

/// What was learnt of each function, kept across restarts in one file that is replaced as a whole.
///
/// It is advice: a file that is missing or cannot be read means that learning starts anew, nothing else.
struct LearningStore {
    private struct Contents: Codable {
        var version: Int
        var functions: [String: FunctionProfile]
    }

    private static let version = 1
    let path: String

    func load() -> [String: FunctionProfile] {
        guard let data = try? Data(contentsOf: URL(filePath: path)),
            let contents = try? JSONDecoder().decode(Contents.self, from: data), contents.version == Self.version
        else { return [:] }
        return contents.functions
    }

    func save(_ functions: [String: FunctionProfile]) throws {
        let data = try JSONEncoder().encode(Contents(version: Self.version, functions: functions))
        try data.write(to: URL(filePath: path + ".new"))
        try SyscallError.check("rename", path, unsafe rename(path + ".new", path))
    }
}
