// SPDX-License-Identifier: Apache-2.0

/// Why a call of an extension is refused: always with 403, and with Lambda's name for the reason.
package enum ExtensionRefusal: Error, Sendable, Equatable {
    case invalidName(String)
    case invalidEvent(String)
    case invalidFormat(String)
    case tooMany(limit: Int)
    case registrationClosed
    case missingIdentifier
    case invalidIdentifier
    case unknownIdentifier
    case missingErrorType
    /// Subscriptions are taken while the sandbox starts.
    case telemetryClosed
    /// The call is not allowed now; `from` and `to` are names of states.
    case invalidState(name: String, from: String, to: String)

    /// The `errorType` of the document.
    package var type: String {
        switch self {
        case .invalidName: "Extension.InvalidExtensionName"
        case .invalidEvent: "Extension.InvalidEventType"
        case .invalidFormat: "InvalidRequestFormat"
        case .tooMany: "Extension.TooManyExtensions"
        case .registrationClosed: "Extension.RegistrationClosed"
        case .missingIdentifier: "Extension.MissingExtensionIdentifier"
        case .invalidIdentifier: "Extension.InvalidExtensionIdentifier"
        case .unknownIdentifier: "Extension.UnknownExtensionIdentifier"
        case .missingErrorType: "Extension.MissingHeader"
        case .telemetryClosed: "Telemetry.SubscriptionClosed"
        case .invalidState: "Extension.InvalidExtensionState"
        }
    }

    /// The `errorMessage` of the document.
    package var message: String {
        switch self {
        case .invalidName(let why), .invalidEvent(let why), .invalidFormat(let why): why
        case .tooMany(let limit): "Extension limit (\(limit)) reached"
        case .registrationClosed: "Extension registration closed already"
        case .missingIdentifier: "Missing Lambda-Extension-Identifier header"
        case .invalidIdentifier: "Invalid Lambda-Extension-Identifier"
        case .unknownIdentifier: "Unknown Lambda-Extension-Identifier"
        case .missingErrorType: "Lambda-Extension-Function-Error-Type not found"
        case .telemetryClosed: "Telemetry API subscription is closed already"
        case .invalidState(let name, let from, let to):
            "State transition from \(from) to \(to) failed for extension \(name). Error: State transition is not allowed"
        }
    }
}
