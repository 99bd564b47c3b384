// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Testing

@testable import RuntimeAPI

@Suite("Bodies of extensions' calls")
struct ExtensionBodiesTests {
    @Test("a registration names its events")
    func registration() throws {
        #expect(try ExtensionRegistration.read(ByteBuffer(string: #"{"events":["INVOKE"],"x":1}"#)) == ["INVOKE"])
        #expect(try ExtensionRegistration.read(ByteBuffer(string: "{}")) == [])
    }

    @Test(
        "a registration of another form is refused",
        arguments: ["", "[]", #"{"events":"INVOKE"}"#, #"{"events":[],"configurationKeys":["a"]}"#]
    )
    func malformed(body: String) {
        #expect(throws: ExtensionRefusal.self) { try ExtensionRegistration.read(ByteBuffer(string: body)) }
    }

    private func problem(_ body: String) -> String? {
        do throws(TelemetrySubscription.Problem) {
            _ = try TelemetrySubscription.read(ByteBuffer(string: body))
            return nil
        } catch {
            return error.description
        }
    }

    @Test("a subscription to telemetry has Lambda's form")
    func telemetry() {
        let destination = #""destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}"#
        #expect(problem(#"{"schemaVersion":"2022-07-01","types":["platform"],\#(destination)}"#) == nil)
        #expect(problem(#"{"types":["function"],\#(destination)}"#)?.contains("schemaVersion") == true)
        #expect(
            problem(#"{"schemaVersion":"2022-07-01","types":["platform"],"buffering":{"maxItems":1},\#(destination)}"#)?
                .contains("maxItems") == true
        )
        #expect(problem(#"{"schemaVersion":"2022-07-01","types":["all"],\#(destination)}"#)?.contains("types") == true)
        #expect(
            problem(
                #"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"HTTP","URI":"http://example.com"}}"#
            )?
            .contains("URI") == true
        )
        #expect(problem("nothing")?.contains("form") == true)
    }
}
