// SPDX-License-Identifier: Apache-2.0
import Access
import HTTP
import NIOHTTP1
import Settings

extension AccessRefusal {
    /// The refusal in the words of the door that was knocked at.
    func response(path: String, mode: Settings.Auth.Mode) -> HTTPResponse {
        Route.isLambda(path) ? lambdaError.response : plain(mode)
    }

    private var lambdaError: LambdaError {
        switch self {
        case .missing: LambdaError(.forbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
        case .incomplete(let what): LambdaError(.forbidden, "IncompleteSignatureException", what)
        case .unwanted(let what): LambdaError(.forbidden, "UnrecognizedClientException", what)
        case .unknown:
            LambdaError(
                .forbidden,
                "UnrecognizedClientException",
                "The security token included in the request is invalid."
            )
        case .invalidSignature(let what): LambdaError(.forbidden, "InvalidSignatureException", what)
        }
    }

    func plainMessage(_ mode: Settings.Auth.Mode) -> String {
        switch self {
        case .missing: "this daemon wants to know who asks: \(Self.wanted(mode))"
        case .unknown: "nobody is known by this token or key"
        case .incomplete(let what), .unwanted(let what), .invalidSignature(let what): what
        }
    }

    private func plain(_ mode: Settings.Auth.Mode) -> HTTPResponse {
        let message = plainMessage(mode)
        let scheme = mode == .sigv4 ? "AWS4-HMAC-SHA256" : "Bearer"
        return .problem(.unauthorized, "Unauthorized", message, headers: ["WWW-Authenticate": scheme])
    }

    private static func wanted(_ mode: Settings.Auth.Mode) -> String {
        switch mode {
        case .token, .none: "send 'Authorization: Bearer TOKEN', or set FN_TOKEN for fn"
        case .sigv4: "sign with an AWS key"
        case .any: "send 'Authorization: Bearer TOKEN', set FN_TOKEN for fn, or sign with an AWS key"
        }
    }
}
