// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1
import Testing

@testable import Gateway

@Suite("The doors")
struct GatewayTests {
    @Test("a browser may come from this daemon's own page, and from nobody else's")
    func origins() {
        func isRefused(_ host: String, _ origin: String? = nil, known: String = "") -> Bool {
            var headers: HTTPHeaders = ["Host": host]
            if let origin { headers.add(name: "Origin", value: origin) }
            return BrowserGuard.problem(headers, hosts: known) != nil
        }
        #expect(BrowserGuard.problem([:], hosts: "") == nil)
        for host in ["127.0.0.1:9000", "localhost:9000", "fn.localhost", "[::1]:9000", "10.0.0.7", "LOCALHOST"] {
            #expect(!isRefused(host), "\(host)")
            #expect(!isRefused(host, "http://\(host)"))
            #expect(isRefused(host, "http://evil.example"))
            #expect(isRefused(host, "null"))
        }
        #expect(!isRefused("fn.example:80", known: "other, FN.example"))
        #expect(!isRefused("fn.example", known: "*"))
        // A name that somebody else has pointed at this machine.
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9000", "1.2.3", "256.0.0.1"] {
            #expect(isRefused(host, "http://\(host)"), "\(host)")
        }
        #expect(isRefused("127.0.0.1:9000", "http://127.0.0.1:8000"), "another port is another origin")
    }

    @Test("the page and its files are served by name")
    func page() {
        #expect(Route(.GET, "/") == .page(""))
        #expect(Route(.GET, "/page.js") == .page("page.js"))
        #expect(Route(.POST, "/") == nil)
        #expect(Route(.GET, "/page.html") == nil)
        #expect(WebPage.find("page.css")?.headers.first(name: "Content-Security-Policy")?.contains("'none'") == true)
    }

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
