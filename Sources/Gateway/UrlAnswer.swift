// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import NIOCore
import NIOHTTP1

/// An answer to an HTTP-shaped event that cannot be made into one over HTTP.
struct BadUrlAnswer: Error, CustomStringConvertible {
    let why: String
    init(_ why: String) { self.why = why }
    var description: String { "the function's answer is no HTTP answer: \(why)" }
}

/// Status, headers and cookies, as a function states them.
struct UrlHead: Decodable, Equatable {
    private(set) var status = HTTPResponseStatus.ok
    private(set) var fields = HTTPHeaders()

    private enum Key: CodingKey {
        case statusCode, headers, cookies
    }

    /// A header's value: text, or what JSON writes without quotes.
    private struct Value: Decodable {
        var text: String

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Int.self) {
                text = "\(number)"
            } else if let flag = try? container.decode(Bool.self) {
                text = "\(flag)"
            } else if let number = try? container.decode(Double.self) {
                text = "\(number)"
            } else {
                text = try container.decode(String.self)
            }
        }
    }

    /// Ours to say: they describe the connection, not the answer.
    private static let framing: Set<String> = [
        "connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    ]

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        let code = try container.decodeIfPresent(Int.self, forKey: .statusCode) ?? 200
        guard (200..<600).contains(code) else { throw BadUrlAnswer("statusCode \(code) is not from 200 to 599") }
        status = HTTPResponseStatus(statusCode: code)
        let headers = try container.decodeIfPresent([String: Value].self, forKey: .headers) ?? [:]
        for (name, value) in headers.sorted(by: { $0.key < $1.key }) where !Self.framing.contains(name.lowercased()) {
            try add(name, value.text)
        }
        for cookie in try container.decodeIfPresent([String].self, forKey: .cookies) ?? [] {
            try add("Set-Cookie", cookie)
        }
        if !fields.contains(name: "Content-Type"), status.mayHaveResponseBody {
            fields.add(name: "Content-Type", value: "application/json")
        }
    }

    /// A function must not be able to write a second answer into its first: neither part may hold a line's end.
    private mutating func add(_ name: String, _ value: String) throws(BadUrlAnswer) {
        let isToken = name.utf8.allSatisfy { byte in
            byte > 0x20 && byte < 0x7F && !#""(),/:;<=>?@[\]{}"#.utf8.contains(byte)
        }
        guard !name.isEmpty, isToken else { throw BadUrlAnswer("'\(name)' is no header's name") }
        guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            throw BadUrlAnswer("the value of header '\(name)' holds a control character")
        }
        fields.add(name: name, value: value)
    }
}

/// A whole answer to an HTTP-shaped event: an object with `statusCode`.
struct UrlAnswer {
    let head: UrlHead
    let body: ByteBuffer

    private struct Anything: Decodable {
        init(from decoder: any Decoder) throws {}
    }

    private struct Probe: Decodable {
        var statusCode: Anything?
    }

    private struct Body: Decodable {
        var body: String?
        var isBase64Encoded: Bool?
    }

    /// The HTTP answer that a function's answer is; `nil` for any other value, which is a body by itself.
    static func find(in answer: ByteBuffer) throws(BadUrlAnswer) -> UrlAnswer? {
        let bytes = answer.readableBytesView
        guard let probe = try? JSONText.decode(Probe.self, from: bytes), probe.statusCode != nil else { return nil }
        let head = try UrlHead.parse(bytes)
        let content: Body
        do {
            content = try JSONText.decode(Body.self, from: bytes)
        } catch {
            throw BadUrlAnswer("body must be a string and isBase64Encoded true or false")
        }
        let text = content.body ?? ""
        guard content.isBase64Encoded == true else { return UrlAnswer(head: head, body: ByteBuffer(string: text)) }
        guard let decoded = Base64.decode(text) else { throw BadUrlAnswer("body is not base64") }
        return UrlAnswer(head: head, body: ByteBuffer(bytes: decoded))
    }
}

extension UrlHead {
    static func parse(_ json: some Sequence<UInt8>) throws(BadUrlAnswer) -> UrlHead {
        do {
            return try JSONText.decode(UrlHead.self, from: json)
        } catch let error as BadUrlAnswer {
            throw error
        } catch {
            throw BadUrlAnswer("expected statusCode (a number), headers (an object) and cookies (a list of strings)")
        }
    }
}
