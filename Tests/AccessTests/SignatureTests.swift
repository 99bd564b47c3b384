// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOHTTP1
import Testing

@testable import Access

@Suite("Signatures")
struct SignatureTests {
    @Test("the vector 'get-vanilla' of AWS's own test suite is right")
    func vector() throws {
        let headers: HTTPHeaders = ["Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z"]
        let claim = try SignatureClaim(
            authorization: "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                + "SignedHeaders=host;x-amz-date, "
                + "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            headers
        )
        let request = HTTPRequest(method: .GET, uri: "/", headers: headers)
        #expect(SignatureV4.isRight(claim, request, secret: Signed.secret))
        #expect(!SignatureV4.isRight(claim, request, secret: "x"))
    }

    @Test(
        "paths are normalised and encoded once more",
        arguments: [
            ("/", "/"), ("", "/"), ("/a//b/./c/../d/", "/a/b/d/"), ("/a%3Ab", "/a%253Ab"), ("/../x", "/x"),
            ("/a~b_c-d.e", "/a~b_c-d.e"),
        ]
    )
    func paths(sent: String, canonical: String) {
        #expect(CanonicalRequest.path(sent) == canonical)
    }

    @Test(
        "queries are sorted by name and value, and encoded strictly",
        arguments: [
            ("", ""), ("b=2&a=1&a=0", "a=0&a=1&b=2"), ("a", "a="), ("a=%7e+/", "a=~%2B%2F"), ("B=1&a=1", "B=1&a=1"),
        ]
    )
    func queries(sent: String, canonical: String) {
        #expect(CanonicalRequest.query(sent) == canonical)
    }

    @Test("times are read in the one form that signatures have")
    func times() {
        #expect(SignatureTime.parse("20261124T093000Z") == Signed.time)
        #expect(SignatureTime.text(Signed.time) == "20261124T093000Z")
        for text in ["", "2026-11-24T09:30:00Z", "20261124T093000", "20261124T0930+0Z"] {
            #expect(SignatureTime.parse(text) == nil, "\(text)")
        }
    }

    @Test("under load the window of replays gets narrower and has no hole")
    func window() {
        var window = ReplayWindow(capacity: 3)
        func use(_ mark: UInt64, signed: Int64, now: Int64) -> ReplayWindow.Answer {
            window.use(mark, attempt: mark, signed: signed, now: now)
        }
        #expect(use(1, signed: 100, now: 100) == .fresh)
        #expect(use(1, signed: 100, now: 101) == .repeated)
        #expect(use(2, signed: 101, now: 101) == .fresh)
        #expect(use(3, signed: 102, now: 102) == .fresh)
        #expect(use(4, signed: 103, now: 103) == .fresh)
        #expect(use(1, signed: 100, now: 104) == .forgotten, "not let in a second time")
        #expect(use(2, signed: 101, now: 104) == .repeated)
        #expect(use(2, signed: 101, now: 1000) == .fresh, "its time is over, which is looked at before")
    }

    @Test("equal requests of one second share a signature, and are told apart for a few seconds")
    func equalRequests() {
        var window = ReplayWindow()
        #expect(window.use(1, attempt: 1, signed: 100, now: 110) == .fresh)
        #expect(window.use(1, attempt: 2, signed: 100, now: 110) == .fresh)
        #expect(window.use(1, attempt: 2, signed: 100, now: 111) == .repeated)
        #expect(window.use(1, attempt: 3, signed: 100, now: 115) == .fresh)
        #expect(window.use(1, attempt: 4, signed: 100, now: 116) == .repeated, "too late, whatever it calls itself")
    }
}
