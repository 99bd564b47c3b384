// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What is sent for a function: an archive as it is, or a directory as a zip archive.
enum CodeArchive {
    static func read(_ source: String) throws -> [UInt8] {
        var info = stat()
        guard unsafe stat(source, &info) == 0 else {
            throw Failure(.notFound, "fn: \(source): \(unsafe String(cString: strerror(errno)))")
        }
        guard info.st_mode & S_IFMT == S_IFDIR else { return try Console.readFile(source) }
        var zip = ZipWriter()
        try zip.add(directory: source, but: try IgnoreRules(directory: source))
        guard zip.count > 0 else { throw Failure(.usage, "fn: \(source) holds no files") }
        return zip.finish()
    }
}
