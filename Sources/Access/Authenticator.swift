// SPDX-License-Identifier: Apache-2.0
import Crypto
import HTTP
import NIOHTTP1
import Settings
import Synchronization

/// Decides who is let in by what they show, under the keys that are in force now.
package final class Authenticator: Sendable {
    package let mode: Settings.Auth.Mode
    private let keys: @Sendable () -> AccessKeys
    /// Milliseconds since 1970.
    private let clock: @Sendable () -> Int64
    private let window = Mutex(ReplayWindow())

    package init(
        mode: Settings.Auth.Mode,
        keys: @escaping @Sendable () -> AccessKeys,
        clock: @escaping @Sendable () -> Int64
    ) {
        (self.mode, self.keys, self.clock) = (mode, keys, clock)
    }

    private enum Proof {
        case token(name: String)
        case signature(SignatureClaim, AccessKeys.Key, signed: Int64)
    }

    /// What is wrong already with a request's head, so that no body need be taken from a stranger.
    package func headRefusal(_ head: HTTPRequest) -> AccessRefusal? {
        do throws(AccessRefusal) {
            _ = try proof(head)
            return nil
        } catch {
            return error
        }
    }

    /// What is wrong with a whole request; `nil` lets it in, and uses up its signature. Hashes the body.
    ///
    /// - Parameter signedOnly: a bearer token will not do.
    package func refusal(_ request: HTTPRequest, signedOnly: Bool = false) -> AccessRefusal? {
        do throws(AccessRefusal) {
            guard case .signature(let claim, let key, let signed) = try proof(request) else {
                return signedOnly ? .unwanted("this address takes AWS signatures only (AuthType AWS_IAM)") : nil
            }
            try check(claim, key, signed, request)
            return nil
        } catch {
            return error
        }
    }

    /// What is wrong with the head of a request whose body is taken as it comes: a signature is over the whole of it, and
    /// nothing may be believed before.
    package func streamRefusal(_ request: HTTPRequest) -> AccessRefusal? {
        do throws(AccessRefusal) {
            guard case .signature = try proof(request) else { return nil }
            return .unwanted("an image is let in by a bearer token only: its signature would be known at its end")
        } catch {
            return error
        }
    }

    private func proof(_ request: HTTPRequest) throws(AccessRefusal) -> Proof {
        let values = request.headers["Authorization"]
        guard let value = values.first else {
            guard SignatureClaim.isIn(request.query) else { throw .missing }
            try wantSignatures()
            return try known(try SignatureClaim(presigned: request), request.headers)
        }
        guard values.count == 1 else { throw .incomplete("There must be one Authorization header.") }
        if value.hasPrefix(SignatureClaim.algorithm) {
            try wantSignatures()
            return try known(try SignatureClaim(authorization: value, request.headers), request.headers)
        }
        guard value.lowercased().hasPrefix("bearer ") else {
            throw .incomplete("Authorization must begin with 'Bearer' or '\(SignatureClaim.algorithm)'.")
        }
        guard mode == .token || mode == .any else {
            throw .unwanted("this daemon takes AWS signatures, not bearer tokens (auth.mode in fn.yaml)")
        }
        return try token(value.dropFirst("bearer ".count).filter { $0 != " " })
    }

    /// Every token is looked at, and each in constant time: what takes how long tells nothing of them.
    private func token(_ text: String) throws(AccessRefusal) -> Proof {
        let digest = SHA256.hash(data: Array(text.utf8))
        var found: String?
        for token in keys().tokens where digest == token.digest { found = token.name }
        guard let found else { throw .unknown }
        return .token(name: found)
    }

    private func wantSignatures() throws(AccessRefusal) {
        guard mode == .sigv4 || mode == .any else {
            throw .unwanted("this daemon takes bearer tokens, not signatures (auth.mode in fn.yaml)")
        }
    }

    private func known(_ claim: SignatureClaim, _ headers: HTTPHeaders) throws(AccessRefusal) -> Proof {
        guard let key = keys().keys[claim.keyID] else { throw .unknown }
        let signed = try SignatureV4.checkHead(claim, headers, now: clock() / 1000)
        return .signature(claim, key, signed: signed)
    }

    private func check(
        _ claim: SignatureClaim,
        _ key: AccessKeys.Key,
        _ signed: Int64,
        _ request: HTTPRequest
    ) throws(AccessRefusal) {
        guard SignatureV4.isRight(claim, request, secret: key.secret) else {
            throw .invalidSignature(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                    + "Access Key and signing method. Consult the service documentation for details."
            )
        }
        // A presigned request is made to be handed on, and good as often as it is used until it expires.
        guard claim.life == nil else { return }
        // A read may come again; whatever changes something counts once.
        guard request.method != .GET, request.method != .HEAD else { return }
        let sdk = ["amz-sdk-invocation-id", "amz-sdk-request"].map { CanonicalRequest.value($0, request.headers) }
        let attempt = SHA256.hash(data: claim.signature + Array(sdk.joined(separator: "\n").utf8))
        let answer = window.withLock {
            $0.use(Self.mark(claim.signature), attempt: Self.mark(attempt), signed: signed, now: clock() / 1000)
        }
        switch answer {
        case .fresh: return
        case .repeated:
            throw .invalidSignature(
                "Signature already used: sign again, a second later or with an amz-sdk-invocation-id of its own."
            )
        case .forgotten:
            throw .invalidSignature("Signature expired: too many requests came since it was made. Sign again.")
        }
    }

    private static func mark(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}
