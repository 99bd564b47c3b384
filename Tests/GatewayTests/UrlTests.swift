// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import HTTP
import NIOCore
import NIOHTTP1
import Testing

@testable import Gateway

@Suite("The HTTP-shaped door")
struct UrlTests {
    func event(
        _ method: HTTPMethod = .GET,
        _ uri: String,
        _ headers: HTTPHeaders = [:],
        body: [UInt8] = []
    ) -> UrlEvent {
        let request = HTTPRequest(method: method, uri: uri, headers: headers, body: ByteBuffer(bytes: body))
        return UrlEvent("f", request.path, request, peer: "10.1.2.3", requestID: "id", nowMs: 1_584_043_138_123)
    }

    @Test("any method and any path below a function's name leads to it")
    func routes() {
        #expect(Route(.GET, "/url/f") == .url("f", path: "/"))
        #expect(Route(.DELETE, "/url/f/") == .url("f", path: "/"))
        #expect(Route(.RAW(value: "PURGE"), "/url/f/a%2Fb//c/") == .url("f", path: "/a%2Fb//c/"))
        #expect(Route(.POST, "/url/f/%ff") == .url("f", path: "/%ff"))
        #expect(Route(.GET, "/url/") == nil)
        #expect(Route(.GET, "/url") == nil)
        #expect(Route(.GET, "/url/%ff/x") == nil)
    }

    @Test("a request becomes an event of format 2.0")
    func requests() {
        let headers: HTTPHeaders = [
            "Host": "fn.example:9000", "User-Agent": "test", "X-Many": "a", "x-many": "b", "Cookie": "a=1; b=2",
            "cookie": "c=3",
        ]
        let event = event(.PUT, "/a%20b?x=1&x=2&y=%C3%A9+z&flag", headers)
        #expect(event.version == "2.0")
        #expect(event.rawPath == "/a%20b")
        #expect(event.rawQueryString == "x=1&x=2&y=%C3%A9+z&flag")
        #expect(event.queryStringParameters == ["x": "1,2", "y": "é z", "flag": ""])
        #expect(event.cookies == ["a=1", "b=2", "c=3"])
        #expect(event.headers["x-many"] == "a,b")
        #expect(event.body == nil)
        let context = event.requestContext
        #expect(context.domainName == "fn.example")
        #expect(context.domainPrefix == "fn")
        #expect(context.http.method == "PUT")
        #expect(context.http.sourceIp == "10.1.2.3")
        #expect(context.http.userAgent == "test")
        #expect(context.time == "12/Mar/2020:19:58:58 +0000")
        #expect(context.timeEpoch == 1_584_043_138_123)
        #expect(JSONText.encode(event).contains(#""protocol":"HTTP/1.1""#))
    }

    @Test("text travels as text and all else as base64")
    func bodies() {
        for type in ["text/plain", "application/json; charset=utf-8", "application/problem+json"] {
            let event = event(.POST, "/", ["Content-Type": type], body: Array("é".utf8))
            #expect(event.body == "é")
            #expect(!event.isBase64Encoded)
        }
        for headers in [["Content-Type": "application/x-www-form-urlencoded"], [:]] as [HTTPHeaders] {
            let event = event(.POST, "/", headers, body: Array("a".utf8))
            #expect(event.body == "YQ==")
            #expect(event.isBase64Encoded)
        }
        let wrong = event(.POST, "/", ["Content-Type": "text/plain"], body: [0xFF])
        #expect(wrong.body == "/w==")
        #expect(wrong.isBase64Encoded)
    }

    @Test("an object with statusCode is an answer over HTTP; any other value is a body")
    func answers() throws {
        for other in [#"{"a":1}"#, "[1]", "\"x\"", "null", "", "plain"] {
            #expect(try UrlAnswer.find(in: ByteBuffer(string: other)) == nil)
        }
        let text = #"""
            {"statusCode": 201, "headers": {"X-N": 5, "Content-Type": "text/html", "Content-Length": "99"},
             "cookies": ["a=1", "b=2"], "body": "PGI+", "isBase64Encoded": true}
            """#
        let answer = try #require(try UrlAnswer.find(in: ByteBuffer(string: text)))
        #expect(answer.head.status == .created)
        #expect(answer.head.fields.first(name: "x-n") == "5")
        #expect(answer.head.fields["set-cookie"] == ["a=1", "b=2"])
        #expect(!answer.head.fields.contains(name: "content-length"))
        #expect(String(buffer: answer.body) == "<b>")
        let plain = try #require(try UrlAnswer.find(in: ByteBuffer(string: #"{"statusCode":200,"body":"x"}"#)))
        #expect(plain.head.fields.first(name: "content-type") == "application/json")
        #expect(String(buffer: plain.body) == "x")
    }

    @Test(
        "an answer that is none is refused, and nobody can write a second one into it",
        arguments: [
            #"{"statusCode":"abc"}"#, #"{"statusCode":99}"#, #"{"statusCode":200,"headers":[]}"#,
            #"{"statusCode":200,"headers":{"X":"a\r\nSet-Cookie: b"}}"#, #"{"statusCode":200,"headers":{"X Y":"a"}}"#,
            #"{"statusCode":200,"headers":{"":"a"}}"#, #"{"statusCode":200,"cookies":["a\nb"]}"#,
            #"{"statusCode":200,"body":{}}"#, #"{"statusCode":200,"body":"!","isBase64Encoded":true}"#,
        ]
    )
    func badAnswers(text: String) {
        #expect(throws: BadUrlAnswer.self) { try UrlAnswer.find(in: ByteBuffer(string: text)) }
    }

    @Test("the head of a streamed answer is found however it is cut", arguments: 1...60)
    func prelude(size: Int) {
        var prelude = UrlPrelude()
        let bytes = Array(#"{"statusCode":418,"cookies":["a=1"]}"#.utf8) + [UInt8](repeating: 0, count: 8) + [0, 1, 2]
        var body: [UInt8] = []
        var status: HTTPResponseStatus?
        for start in stride(from: 0, to: bytes.count, by: size) {
            let part = ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)])
            guard status == nil else {
                body += part.readableBytesView
                continue
            }
            guard case .complete(let head, let rest) = prelude.take(part) else { continue }
            status = head.status
            body += rest.readableBytesView
        }
        #expect(status?.code == 418)
        #expect(body == [0, 1, 2])
    }

    @Test("a head that cannot be used is said to be so")
    func badPreludes() {
        func isUnusable(_ bytes: [UInt8]) -> Bool {
            var prelude = UrlPrelude()
            if case .unusable = prelude.take(ByteBuffer(bytes: bytes)) { return true }
            return false
        }
        let zeros = [UInt8](repeating: 0, count: 8)
        #expect(isUnusable(Array("{}".utf8) + [0, 0, 0, 1, 0, 0, 0, 0]))
        #expect(isUnusable(Array("nonsense".utf8) + zeros))
        #expect(isUnusable([UInt8](repeating: 0x20, count: 300_000)))
        #expect(!isUnusable(Array("{}".utf8) + zeros))
    }
}
