// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Synchronization
import Testing

@testable import Pool

@Suite("What a sandbox prints")
struct OutputCaptureTests {
    /// A capture, the lines that it told, and the end of its pipe that the sandbox has.
    private final class Printed: Sendable {
        private final class Told: Sendable { let lines = Mutex<[String]>([]) }

        private let told = Told()
        private let input: Descriptor
        let output: OutputCapture

        init() throws {
            let (read, write) = try Descriptor.pipe()
            input = Descriptor(owning: write)
            output = OutputCapture(pipe: read) { [told] line in
                told.lines.withLock {
                    $0.append("\(line.requestID ?? "-"): \(String(decoding: line.bytes, as: UTF8.self))")
                }
            }
        }

        func prints(_ text: String) { unsafe text.withCString { _ = unsafe write(input.raw, $0, text.utf8.count) } }

        var lines: [String] { told.lines.withLock { $0 } }
    }

    @Test("what is put off is written before what comes behind it, and made no sooner")
    func order() throws {
        let sandbox = try Printed()
        sandbox.output.begin("a")
        sandbox.output.noteLater(for: "a") { ["START a"] }
        #expect(sandbox.lines.isEmpty)
        sandbox.prints("one\n")
        sandbox.output.drain()
        #expect(sandbox.lines == ["a: START a", "a: one"])
        sandbox.output.noteLater(for: "a") { ["END a", "two\nlines"] }
        sandbox.output.endLater("a")
        sandbox.prints("between\n")
        sandbox.output.drain()
        #expect(sandbox.lines.dropFirst(2) == ["a: END a", "a: two", "a: lines", "-: between"])
    }

    @Test("the next request finds nothing put off by the one before")
    func next() throws {
        let sandbox = try Printed()
        sandbox.output.begin("a")
        sandbox.output.noteLater(for: "a") { ["END a"] }
        sandbox.output.endLater("a")
        sandbox.output.begin("b")
        sandbox.prints("mine\n")
        sandbox.output.drain()
        #expect(sandbox.lines == ["a: END a", "b: mine"])
        #expect(sandbox.output.tail == Array("mine\n".utf8))
    }

    @Test("the tail has what was put off, and nobody is running behind an end that was")
    func looks() throws {
        let sandbox = try Printed()
        sandbox.output.begin("a")
        sandbox.output.noteLater(for: "a") { ["START a"] }
        #expect(sandbox.output.tail == Array("START a\n".utf8))
        #expect(sandbox.output.requestID == "a")
        sandbox.output.endLater("a")
        #expect(sandbox.output.requestID == nil)
    }

    @Test("a line that was not ended is ended where it is asked for, behind what was put off before it")
    func endLine() throws {
        let sandbox = try Printed()
        sandbox.output.begin("a")
        sandbox.output.noteLater(for: "a") { ["START a"] }
        sandbox.output.endLine()
        #expect(sandbox.lines.isEmpty, "there is no line to end, and nobody asked for the rest")
        sandbox.prints("half")
        sandbox.output.drain()
        sandbox.output.endLine()
        #expect(sandbox.lines == ["a: START a", "a: half"])
    }

    @Test("a sandbox that ends takes nothing with it that was put off")
    func close() throws {
        let sandbox = try Printed()
        sandbox.output.begin("a")
        sandbox.prints("half a line")
        sandbox.output.drain()
        sandbox.output.noteLater(for: "a") { ["END a"] }
        sandbox.output.close()
        #expect(sandbox.lines == ["a: half a line", "a: END a"])
        sandbox.output.settle()
        #expect(sandbox.lines.count == 2)
    }
}
