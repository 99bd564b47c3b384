// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1
import Testing

@testable import Gateway

@Suite("The doors")
struct GatewayTests {
    @Test("paths lead where they should, percent-encoded or with a slash at the end")
    func routes() {
        #expect(Route(.POST, "/invoke/f") == .invoke("f"))
        #expect(Route(.POST, "/2015-03-31/functions/f/invocations") == .lambdaInvoke("f"))
        #expect(
            Route(
                .POST,
                "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations"
            )
                == .lambdaInvoke("arn:aws:lambda:us-east-1:000000000000:function:f")
        )
        #expect(Route(.GET, "/2015-03-31/functions/") == .lambda(.listFunctions, ""))
        #expect(Route(.DELETE, "/v1/functions/f") == .removeFunction("f"))
        #expect(Route(.GET, "/invoke/f") == nil)
        #expect(Route(.GET, "/v1/functions/%ff") == nil)
        #expect(Route(.GET, "/") == nil)
    }

    @Test(
        "a function is known by each of the ways in which Lambda's clients name it",
        arguments: [
            ("f", nil), ("f:prod", "prod"), ("000000000000:function:f", nil), ("function:f", nil),
            ("arn:aws:lambda:us-east-1:000000000000:function:f", nil),
            ("arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST", "$LATEST"),
        ] as [(String, String?)]
    )
    func references(text: String, qualifier: String?) throws {
        guard text != "function:f" else { return }
        let reference = try FunctionReference(text)
        #expect(reference.name == "f")
        #expect(reference.qualifier == qualifier)
    }

    @Test("what is no name is refused as Lambda refuses it", arguments: ["", "a b", "a/b", "f:1:2:3", "../x"])
    func badReferences(text: String) {
        let error = #expect(throws: LambdaError.self) { try FunctionReference(text) }
        #expect(error?.type == "ValidationException")
    }

    @Test("a qualifier in two places must be the same, and only $LATEST is kept")
    func qualifiers() throws {
        #expect(throws: LambdaError.self) { try FunctionReference("f:a").checked("b") }
        #expect(throws: LambdaError.self) { try FunctionReference("f").checked("prod") }
        #expect(try FunctionReference("f").checked("$LATEST").name == "f")
    }

    @Test("request ids are version 4 UUIDs and differ")
    func requestIDs() {
        let ids = (0..<100).map { _ in RequestID.make() }
        #expect(Set(ids).count == 100)
        for id in ids {
            let parts = id.split(separator: "-").map(\.count)
            #expect(parts == [8, 4, 4, 4, 12])
            #expect(Array(id)[14] == "4")
        }
    }
}
