// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import Linux

@Suite("What the service manager is told")
struct ServiceManagerTests {
    /// A datagram socket as systemd listens on, at a path or at an abstract name (`@…`).
    private final class Listener {
        let fd: CInt
        let name: String

        init(_ name: String) {
            self.name = name
            fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            var bytes = Array(name.utf8) + [0]
            if name.hasPrefix("@") { bytes = [0] + bytes.dropFirst().dropLast() }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
            let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
            let bound = unsafe withUnsafePointer(to: address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(fd, $0, length) }
            }
            #expect(bound == 0)
        }

        deinit {
            close(fd)
            if name.hasPrefix("/") { unsafe unlink(name) }
        }

        /// The next message; `nil` when none was sent. A datagram to a local socket is there when `sendto` returns.
        func next() -> String? {
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = unsafe recv(fd, &buffer, buffer.count, 0)
            return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
        }
    }

    @Test("each step is one datagram, at a path and at an abstract name", arguments: ["/tmp/", "@"])
    func steps(prefix: String) throws {
        let listener = Listener("\(prefix)ebb-notify-\(getpid())")
        let manager = ServiceManager(["NOTIFY_SOCKET": listener.name])
        manager.isReady("Serving")
        #expect(listener.next() == "READY=1\nSTATUS=Serving")
        let before = MonotonicClock.now() / 1000
        manager.isReloading()
        let reloading = try #require(listener.next())
        #expect(reloading.hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        let told = try #require(reloading.split(separator: "=").last.flatMap { Int64($0) })
        #expect((before...MonotonicClock.now() / 1000).contains(told))
        manager.isStopping()
        #expect(listener.next()?.hasPrefix("STOPPING=1\n") == true)
        manager.isAlive()
        #expect(listener.next() == "WATCHDOG=1")
        #expect(listener.next() == nil)
    }

    @Test(
        "nobody is told where there is no manager, or no address that could be one",
        arguments: ["", "relative", "/no/such/socket", "/" + String(repeating: "x", count: 107)]
    )
    func nobody(address: String) {
        let manager = ServiceManager(["NOTIFY_SOCKET": address])
        manager.isReady("Serving")
        manager.isAlive()
    }

    @Test("a watchdog's time is its own process's")
    func watchdog() {
        #expect(ServiceManager(["WATCHDOG_USEC": "30000000"]).watchdog == .seconds(30))
        #expect(ServiceManager(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "\(getpid())"]).watchdog == .seconds(30))
        #expect(ServiceManager(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"]).watchdog == nil)
        #expect(ServiceManager(["WATCHDOG_USEC": "0"]).watchdog == nil)
        #expect(ServiceManager(["WATCHDOG_USEC": "soon"]).watchdog == nil)
        #expect(ServiceManager([:]).watchdog == nil)
    }
}
