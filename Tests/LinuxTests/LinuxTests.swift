// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization
import Testing

@testable import Linux

@Suite("The kernel's objects")
struct LinuxTests {
    @Test("a failed call says what it did, to what, and why")
    func errors() {
        #expect(throws: SyscallError("open", "/no/such/file", ENOENT)) { try KernelFile.read("/no/such/file") }
        #expect(SyscallError("open", "/x", ENOENT).description == "open /x: No such file or directory")
    }

    @Test("a watched pipe calls back when it can be read, and not after it was cancelled")
    func watching() throws {
        let events = try EventWatcher()
        defer { events.shutdown() }
        let (read, write) = try Descriptor.pipe()
        defer { close(write) }
        let count = Mutex(0)
        let token = try events.watch(read, .readable) {
            var byte: UInt8 = 0
            unsafe Glibc.read(read, &byte, 1)
            count.withLock { $0 += 1 }
        }
        unsafe Glibc.write(write, "a", 1)
        while count.withLock({ $0 }) < 1 { usleep(200) }
        events.cancel(token)
        unsafe Glibc.write(write, "b", 1)
        usleep(2000)
        #expect(count.withLock { $0 } == 1)
        close(read)
    }

    @Test("work on a serial thread keeps its order and returns its results and errors")
    func serialThread() throws {
        let thread = SerialThread(name: "test")
        defer { thread.stop() }
        let order = Mutex<[Int]>([])
        for i in 0..<50 { thread.run { order.withLock { $0.append(i) } } }
        #expect(order.withLock { $0 } == Array(0..<50))
        #expect(throws: SyscallError("x", "y", 1)) {
            try thread.run { () throws(SyscallError) -> Int in throw SyscallError("x", "y", 1) }
        }
    }

    @Test("times are printed as ISO 8601 with milliseconds")
    func time() {
        #expect(WallClock.iso8601(0) == "1970-01-01T00:00:00.000Z")
        #expect(WallClock.iso8601(1_700_000_000_042) == "2023-11-14T22:13:20.042Z")
    }
}
