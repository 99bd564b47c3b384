// SPDX-License-Identifier: Apache-2.0
import Functions
import Settings
import Testing

@testable import Dispatching

@Suite("Where records may go")
struct DestinationRulesTests {
    private func isAllowed(_ text: String, hosts: String = "loopback") throws -> Bool {
        var settings = Settings()
        settings.storage.state = "/var/lib/fn/"
        settings.storage.destinations = "auto"
        settings.http.listen = "127.0.0.1:9000"
        settings.limits.destinationHosts = hosts
        return DestinationRules(settings: settings).problem(try Destination(text)) == nil
    }

    @Test("files only below the operator's directory")
    func files() throws {
        #expect(try isAllowed("file:///var/lib/fn/destinations/a/b"))
        for path in [
            "/var/lib/fn/destinations", "/var/lib/fn/destinations2/x", "/var/lib/fn/registry.sqlite", "/etc/passwd",
        ] {
            #expect(try !isAllowed("file://\(path)"), "\(path)")
        }
    }

    @Test("loopback is what says so plainly, and not the daemon itself")
    func loopback() throws {
        for host in ["localhost", "127.0.0.1", "127.9.8.7:1234", "[::1]:80"] {
            #expect(try isAllowed("http://\(host)/x"), "\(host)")
        }
        for host in [
            "10.0.0.1", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "localhost.example", "169.254.169.254",
            "[::ffff:127.0.0.1]", "127.0.0.1:9000", "localhost:9000", "[::1]:9000",
        ] {
            #expect(try !isAllowed("http://\(host)/x"), "\(host)")
        }
    }

    @Test("other hosts are those that the operator lists, at their port if one is named")
    func listed() throws {
        let hosts = "loopback, hooks.example, 10.0.0.7:8080"
        #expect(try isAllowed("http://hooks.example/x", hosts: hosts))
        #expect(try isAllowed("http://HOOKS.example:81/x", hosts: hosts))
        #expect(try isAllowed("http://10.0.0.7:8080/x", hosts: hosts))
        #expect(try !isAllowed("http://10.0.0.7/x", hosts: hosts))
        #expect(try !isAllowed("http://evil.example/x", hosts: hosts))
        #expect(try !isAllowed("http://localhost/x", hosts: ""))
    }

    @Test("a destination that does not answer is tried after one second, then two, up to five minutes")
    func pauses() {
        #expect((1...3).map { Delivery.pause(after: $0) } == [.seconds(1), .seconds(2), .seconds(4)])
        #expect(Delivery.pause(after: 40) == .seconds(300))
    }
}
