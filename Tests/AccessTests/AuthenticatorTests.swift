// SPDX-License-Identifier: Apache-2.0
import Crypto
import HTTP
import NIOCore
import NIOHTTP1
import Testing

@testable import Access
@testable import Settings

/// Requests as botocore 1.43.11 signs them, at 2026-11-24T09:30:00Z.
enum Signed {
    static let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    static let time: Int64 = 1_795_512_600
    private static let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/lambda/aws4_request, "

    static let invocation = HTTPRequest(
        method: .POST,
        uri: "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations"
            + "?Qualifier=%24LATEST",
        headers: [
            "Host": "127.0.0.1:9000", "X-Amz-Invocation-Type": "RequestResponse", "amz-sdk-request": "attempt=1",
            "X-Amz-Date": "20261124T093000Z",
            "Authorization": start + "SignedHeaders=amz-sdk-request;host;x-amz-date;x-amz-invocation-type, "
                + "Signature=e5368aa1281b01c4ebe0d5d1379a5f2b7c1af50d681a39a6c974fe9fc28f46b5",
        ],
        body: ByteBuffer(string: #"{"n": 1}"#)
    )

    static let list = HTTPRequest(
        method: .GET,
        uri: "/v1/decisions?subject=a%20b&limit=5&after=1&limit=10&empty",
        headers: [
            "host": "127.0.0.1:9000", "x-spaced": "  a   b  ", "x-amz-date": "20261124T093000Z",
            "authorization": start + "SignedHeaders=host;x-amz-date;x-spaced, "
                + "Signature=508187f802f756b9728f82d33885c3885a4a7f5d62f7cb94f11c13b63cba2a80",
        ]
    )
}

extension Signed {
    /// By botocore's `SigV4QueryAuth`, for an hour.
    static let presigned = HTTPRequest(
        method: .POST,
        uri: "/2015-03-31/functions/f/invocations?Qualifier=%24LATEST&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            + "&X-Amz-Credential=AKIDEXAMPLE%2F20261124%2Fus-east-1%2Flambda%2Faws4_request"
            + "&X-Amz-Date=20261124T093000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host%3Bx-amz-invocation-type"
            + "&X-Amz-Signature=64dfb45ca25cdacd4b627980bdf584a79c66a78569b334e97025f3a83a2702f8",
        headers: ["Host": "127.0.0.1:9000", "X-Amz-Invocation-Type": "Event"]
    )
}

@Suite("Who is let in")
struct AuthenticatorTests {
    private func authenticator(
        _ mode: Settings.Auth.Mode = .any,
        secret: String = Signed.secret,
        at time: Int64 = Signed.time
    ) -> Authenticator {
        var keys = AccessKeys()
        keys.keys["AKIDEXAMPLE"] = AccessKeys.Key(name: "deploy", secret: secret)
        let digest = Array(SHA256.hash(data: Array(Self.token.utf8)))
        keys.tokens = [AccessKeys.Token(name: "other", digest: .init(repeating: 0, count: 32))]
        keys.tokens += [AccessKeys.Token(name: "ci", digest: digest)]
        let known = keys
        return Authenticator(mode: mode, keys: { known }, clock: { time * 1000 })
    }

    private func bearer(_ value: String) -> HTTPRequest {
        HTTPRequest(method: .GET, uri: "/v1/functions", headers: ["Authorization": value])
    }

    @Test("a request that an SDK signed is let in", arguments: [Signed.invocation, Signed.list])
    func signed(request: HTTPRequest) {
        #expect(authenticator().refusal(request) == nil)
        #expect(authenticator(.sigv4).refusal(request) == nil)
    }

    @Test("any change to a signed request, or another secret, breaks the signature")
    func tampering() {
        func isBroken(_ edit: (inout HTTPRequest) -> Void) -> Bool {
            var request = Signed.invocation
            edit(&request)
            if case .invalidSignature(let why) = authenticator().refusal(request) {
                return why.contains("does not match")
            }
            return false
        }
        #expect(isBroken { $0.body = ByteBuffer(string: #"{"n": 2}"#) })
        #expect(isBroken { $0.method = .PUT })
        #expect(isBroken { $0.path += "x" })
        #expect(isBroken { $0.query = "Qualifier=prod" })
        #expect(isBroken { $0.query += "&a=1" })
        #expect(isBroken { $0.headers.replaceOrAdd(name: "X-Amz-Invocation-Type", value: "Event") })
        #expect(isBroken { $0.headers.replaceOrAdd(name: "Host", value: "elsewhere:9000") })
        #expect(authenticator(secret: "another").refusal(Signed.invocation) != nil)
    }

    @Test("a header of Amazon's that is not signed is refused: it could have been added on the way")
    func unsigned() {
        var request = Signed.invocation
        request.headers.add(name: "X-Amz-Log-Type", value: "Tail")
        #expect(authenticator().refusal(request) == .invalidSignature("These headers must be signed: x-amz-log-type."))
    }

    @Test("a signature is good for five minutes before and after its time", arguments: [-301, -300, 0, 300, 301])
    func skew(offset: Int64) {
        let refusal = authenticator(at: Signed.time + offset).refusal(Signed.list)
        #expect((refusal == nil) == (abs(offset) <= 300))
        if case .invalidSignature(let why) = refusal {
            #expect(why.hasPrefix(offset > 0 ? "Signature expired: 2026112" : "Signature not yet current: 2026112"))
        }
    }

    @Test("what changes something counts once; a read may come again")
    func replay() {
        let authenticator = authenticator()
        #expect(authenticator.refusal(Signed.list) == nil)
        #expect(authenticator.refusal(Signed.list) == nil)
        #expect(authenticator.headRefusal(Signed.invocation) == nil, "looking at the head uses nothing up")
        #expect(authenticator.refusal(Signed.invocation) == nil)
        guard case .invalidSignature(let why) = authenticator.refusal(Signed.invocation) else {
            Issue.record("a replay was let in")
            return
        }
        #expect(why.hasPrefix("Signature already used"))
    }

    @Test("a presigned request is good until it expires, as often as it is used")
    func presigned() {
        let authenticator = authenticator(at: Signed.time + 3600)
        #expect(authenticator.refusal(Signed.presigned) == nil)
        #expect(authenticator.refusal(Signed.presigned) == nil, "it may be used again")
        #expect(authenticator.headRefusal(Signed.presigned) == nil)
        let late = self.authenticator(at: Signed.time + 3601).refusal(Signed.presigned)
        #expect(late == .invalidSignature("Signature expired: 20261124T103000Z is now earlier than 20261124T103001Z"))
        let early = self.authenticator(at: Signed.time - 301).refusal(Signed.presigned)
        if case .invalidSignature(let why) = early { #expect(why.hasPrefix("Signature not yet current")) }
        #expect(early != nil)
        guard case .unwanted = self.authenticator(.token).refusal(Signed.presigned) else {
            Issue.record("a presigned request was let in where only tokens are taken")
            return
        }
    }

    @Test(
        "no part of a presigned request can be changed, and its life is a week at most",
        arguments: [
            ("Expires=3600", "Expires=7200"), ("Expires=3600", "Expires=604801"), ("Expires=3600", "Expires=0"),
            ("Qualifier=%24LATEST", "Qualifier=1"), ("host%3Bx-amz-invocation-type", "host"),
            ("X-Amz-Date=20261124T093000Z", "X-Amz-Date=20261124T093001Z"), ("Signature=64", "Signature=65"),
            ("&X-Amz-Algorithm=AWS4-HMAC-SHA256", ""), ("Expires=3600", "Expires=3600&X-Amz-Expires=3600"),
        ]
    )
    func presignedTampering(part: String, other: String) {
        var request = Signed.presigned
        #expect(request.query.contains(part))
        let pieces = request.query.split(separator: part, maxSplits: 1, omittingEmptySubsequences: false)
        request.query = pieces.joined(separator: other)
        #expect(authenticator().refusal(request) != nil)
    }

    @Test("a token is let in under its own scheme only")
    func tokens() {
        #expect(authenticator(.token).refusal(bearer("Bearer open")) == .unknown)
        #expect(authenticator(.token).refusal(bearer("Bearer \(Self.token)")) == nil)
        #expect(authenticator(.any).refusal(bearer("bearer \(Self.token)")) == nil)
        #expect(authenticator(.token).refusal(bearer("Bearer ")) == .unknown)
        #expect(authenticator(.token).refusal(HTTPRequest(method: .GET, uri: "/")) == .missing)
        guard case .unwanted = authenticator(.sigv4).refusal(bearer("Bearer \(Self.token)")),
            case .unwanted = authenticator(.token).refusal(Signed.list),
            case .incomplete = authenticator(.any).refusal(bearer("Basic YTpi"))
        else {
            Issue.record("a proof of the wrong kind was taken")
            return
        }
    }

    private static let token = "opensesame"

    @Test(
        "half a signature is told what it lacks",
        arguments: [
            ("AWS4-HMAC-SHA256", "Authorization header requires 'Credential' parameter."),
            ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00", "exactly 5"),
            ("AWS4-HMAC-SHA256 Credential=A/20261124/r/lambda/aws4_request, SignedHeaders=host, Signature=zz", "64"),
        ]
    )
    func incomplete(value: String, words: String) {
        guard case .incomplete(let why) = authenticator().refusal(bearer(value)) else {
            Issue.record("\(value) was read")
            return
        }
        #expect(why.contains(words))
    }

    @Test("a key that is not known, another service, and a day that is not the date's are refused")
    func scope() {
        func refusal(_ old: String, _ new: String) -> AccessRefusal? {
            var request = Signed.list
            let value = request.headers.first(name: "Authorization")?.replacing(old, with: new) ?? ""
            request.headers.replaceOrAdd(name: "Authorization", value: value)
            return authenticator().refusal(request)
        }
        #expect(refusal("AKIDEXAMPLE", "AKIDNOBODY") == .unknown)
        #expect(
            refusal("/lambda/", "/s3/")
                == .invalidSignature("Credential should be scoped to correct service: 'lambda'.")
        )
        #expect(refusal("/20261124/", "/20261123/") != nil)
    }
}
