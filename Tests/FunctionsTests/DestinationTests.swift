// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Linux
import Testing
import Units

@testable import Functions

@Suite("Destinations")
struct DestinationTests {
    @Test(
        "a function, a file and an HTTP address are read, and written as they are kept",
        arguments: [
            ("told", "told"), ("arn:aws:lambda:us-east-1:000000000000:function:told", "told"),
            ("arn:aws:lambda:us-east-1:000000000000:function:told:$LATEST", "told"),
            ("file:///var/lib/x/y.jsonl", "file:///var/lib/x/y.jsonl"),
            ("http://LocalHost/a?b=c", "http://localhost/a?b=c"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"), ("http://[::1]:99/x", "http://[::1]:99/x"),
            ("http://h:80/x", "http://h/x"),
        ]
    )
    func reads(text: String, kept: String) throws {
        let destination = try Destination(text)
        #expect(destination.description == kept)
        #expect(try Destination(kept) == destination)
    }

    @Test(
        "anything else is refused with what is wrong",
        arguments: [
            ("", "names no function"), ("arn:aws:sqs:us-east-1:0:q", "'sqs' is not offered"),
            ("arn:aws:sns:us-east-1:0:t", "'sns' is not offered"),
            ("arn:aws:lambda:us-east-1:0:layer:x", "no function's ARN"),
            ("https://host/x", "TLS"), ("file://host/x", "absolute"), ("file:///a/../b", "absolute"),
            ("file:///a//b", "absolute"),
            ("file:///", "absolute"), ("http:///x", "host"), ("http://u:p@h/x", "password"),
            ("http://h/x#y", "fragment"),
            ("http://h:0/", "host or port"), ("http://h:99999/", "host or port"), ("http://[::1/x", "host or port"),
            ("http://h/a b", "spaces"), ("http://h/a\r\nX: y", "spaces"), ("ftp://h/x", "names no function"),
        ]
    )
    func refuses(text: String, why: String) {
        let error = #expect(throws: FunctionsError.self) { try Destination(text) }
        #expect(error?.description.contains(why) == true, "\(error?.description ?? "")")
    }
}

@Suite("Files of records")
struct RecordFileTests {
    private let state: TemporaryState
    private var base: String { "\(state.path)/allowed" }

    init() throws { state = try TemporaryState() }

    private func append(_ text: String, _ path: String, limit: Bytes = .kib(4)) throws(RecordFile.Problem) {
        try RecordFile.append(Array(text.utf8), to: path, below: base, limit: limit)
    }

    private func content(_ path: String) -> String? { try? KernelFile.read(path) }

    @Test("records are lines, in the order in which they came, and directories are made")
    func lines() throws {
        try append("{\"a\":1}", "\(base)/x/y.jsonl")
        try append("{\"a\":2}", "\(base)/x/y.jsonl")
        #expect(content("\(base)/x/y.jsonl") == "{\"a\":1}\n{\"a\":2}\n")
    }

    @Test("half a line that a kill left is cut off before the next")
    func torn() throws {
        try append("1", "\(base)/f")
        try KernelFile.write("\(base)/f", String(repeating: "x", count: 9000), append: true)
        try append("2", "\(base)/f", limit: .kib(64))
        #expect(content("\(base)/f") == "1\n2\n")
    }

    @Test(
        "nothing outside of the operator's directory is touched",
        arguments: ["/etc/x", "BASE", "BASE2/x", "BASE/../x"]
    )
    func outside(path: String) {
        let path = path.replacingOccurrences(of: "BASE", with: base)
        #expect(throws: RecordFile.Problem.outside(path: path, base: base)) { try append("1", path) }
    }

    @Test("no link is followed, and nothing but a file is written")
    func links() throws {
        try Directory.makeAll("\(base)/real")
        try Directory.make("\(state.path)/elsewhere")
        for (link, target) in [
            ("link", "\(state.path)/elsewhere"), ("file", "\(state.path)/target"), ("in", "\(base)/real"),
        ] {
            #expect(unsafe symlink(target, "\(base)/\(link)") == 0)
        }
        #expect(unsafe mkfifo("\(base)/fifo", 0o600) == 0)
        for path in [
            "\(base)/link/x", "\(base)/file", "\(base)/in/x", "\(base)/fifo", "\(base)/real", "\(base)/fifo/x",
        ] {
            #expect(throws: RecordFile.Problem.wrongKind(path: path), "\(path)") { try append("1", path) }
        }
        #expect(try Directory.list("\(state.path)/elsewhere").isEmpty)
        #expect(!KernelFile.exists("\(state.path)/target"))
    }

    @Test("a file that would become too large says so and stays as it is")
    func full() throws {
        let (path, line) = ("\(base)/f", String(repeating: "x", count: 3000))
        try append(line, path)
        let problem = RecordFile.Problem.full(path: path, limit: .kib(4))
        #expect(throws: problem) { try append(line, path) }
        #expect(!problem.isFinal && problem.description.contains("limits.destination_file"))
        #expect(content(path) == line + "\n")
    }
}
