// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1

/// The file of header fields for a collector: `Name: value` lines; empty ones and those that begin with `#` are skipped.
struct CollectorHeaders {
    struct Problem: Error, CustomStringConvertible {
        let line: Int
        /// Without what stands there: it may be a secret.
        var description: String { "line \(line): expected 'Name: value'" }
    }

    let fields: HTTPHeaders

    init(_ text: String) throws(Problem) {
        var fields = HTTPHeaders()
        // A CRLF is one character.
        let lines = text.split(omittingEmptySubsequences: false) { $0.isNewline }
        for (index, line) in lines.enumerated() {
            guard !line.isEmpty, !line.hasPrefix("#") else { continue }
            guard let colon = line.firstIndex(of: ":"), colon != line.startIndex else { throw Problem(line: index + 1) }
            let (name, value) = (line[..<colon], line[line.index(after: colon)...].drop(while: { $0 == " " }))
            let isName = name.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
                    || byte == UInt8(ascii: "_")
            }
            guard isName, value.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else { throw Problem(line: index + 1) }
            fields.add(name: String(name), value: String(value))
        }
        self.fields = fields
    }
}
