// SPDX-License-Identifier: Apache-2.0
import CLinux
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

    @Test(
        "a moment is spelled as ISO 8601, on leap days and before 1970 too",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"), (1_795_511_220_042, "2026-11-24T09:07:00.042Z"),
        ] as [(Int64, String)]
    )
    func moments(ms: Int64, text: String) { #expect(WallClock.iso8601(ms) == text) }

    @Test("user namespaces are made on several threads at once without waiting for each other for ever")
    func userNamespaces() throws {
        let left = Atomic(4)
        for _ in 0..<4 {
            try Thread.start(name: "maker") {
                for _ in 0..<100 {
                    // Refused where one may not make any: then too it has to end.
                    let namespace = clinux_user_namespace(1000, getuid())
                    if namespace >= 0 { close(namespace) }
                }
                left.subtract(1, ordering: .relaxed)
            }
        }
        for _ in 0..<6000 where left.load(ordering: .relaxed) > 0 { usleep(10_000) }
        #expect(left.load(ordering: .relaxed) == 0)
    }

    @Test("a process is told by its line in /proc, whatever its name is, and one on its way out is known")
    func processes() throws {
        let line = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3"
        let state = try #require(ProcessState(stat: line))
        #expect(state.startTime == 987_654 && !state.isEnding)
        #expect(ProcessState(stat: line.replacing(" 4194560 ", with: " 4194564 "))?.isEnding == true)
        #expect(ProcessState(stat: "7 (a) S 1") == nil && ProcessState(stat: "") == nil)
        #expect(ProcessState(getpid())?.isEnding == false && ProcessState(0) == nil)
    }

    @Test("who listens at a path is told by its number, and a socket that was left behind has nobody")
    func listeners() throws {
        let path = "/tmp/ebb-listener-\(getpid())"
        defer { _ = unsafe unlink(path) }
        #expect(LocalSocket.visit(path) == nil)
        let listening = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let bound = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(listening, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listening, 0) == 0)
        let visit = try #require(LocalSocket.visit(path))
        #expect(visit.process == getpid() && !visit.isOver)
        // One more finds no room: somebody is there, and nobody knows who.
        let another = try #require(LocalSocket.visit(path))
        #expect(another.process == nil && another.isOver)
        close(listening)
        #expect(visit.isOver)
        #expect(LocalSocket.visit(path) == nil)
    }

    @Test("what is cancelled twice, or after its descriptor was closed, takes nobody else's place")
    func cancelling() throws {
        let events = try EventWatcher()
        defer { events.shutdown() }
        let first = try Descriptor.pipe()
        let stale = try events.watch(first.0, .readable) {}
        for fd in [first.0, first.1] { close(fd) }
        let (read, write) = try Descriptor.pipe()  // the same numbers again
        defer { for fd in [read, write] { close(fd) } }
        let wasCalled = Mutex(false)
        let token = try events.watch(read, .readable) { wasCalled.withLock { $0 = true } }
        events.cancel(stale)
        events.cancel(stale)
        unsafe Glibc.write(write, "a", 1)
        while !wasCalled.withLock({ $0 }) { usleep(200) }
        events.cancel(token)
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

    @Test("a thread's end is told, and marked for who cannot wait")
    func life() throws {
        let life = Atomic<UInt>(0)
        let mayEnd = Atomic(false)
        try Thread.start(name: "short") {
            life.store(unsafe UInt(bitPattern: clinux_life_of_this_thread()), ordering: .releasing)
            while !mayEnd.load(ordering: .relaxed) { usleep(100) }
        }
        while life.load(ordering: .acquiring) == 0 { usleep(100) }
        let pointer = unsafe OpaquePointer(bitPattern: life.load(ordering: .relaxed))
        let word = unsafe clinux_life_word(pointer)
        let died: Int32 = 0x4000_0000  // FUTEX_OWNER_DIED
        #expect(unsafe (word?.pointee ?? died) & died == 0)
        mayEnd.store(true, ordering: .relaxed)
        for _ in 0..<10_000 where unsafe (word?.pointee ?? died) & died == 0 { usleep(1000) }
        #expect(unsafe (word?.pointee ?? 0) & died != 0)
        unsafe clinux_life_wait(pointer)
    }

    @Test("work on a serial thread keeps its order and returns its results and errors")
    func serialThread() throws {
        let thread = try SerialThread(name: "test")
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
