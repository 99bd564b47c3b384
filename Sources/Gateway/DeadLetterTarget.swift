// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Functions

/// Lambda's `DeadLetterConfig`: where events go that were given up. Only functions are offered; an empty ARN ends it.
struct DeadLetterTarget: Codable {
    var TargetArn: String?

    init?(_ events: EventHandling) {
        guard let name = events.deadLetter else { return nil }
        TargetArn = FunctionReference.arn(name)
    }

    /// The function that is named; `nil` when none is any more.
    func function() throws(LambdaError) -> String? {
        guard let arn = TargetArn, !arn.isEmpty else { return nil }
        guard case .function(let name) = try? Destination(arn), arn.hasPrefix("arn:") else {
            let parts = arn.split(separator: ":")
            let what =
                arn.hasPrefix("arn:") && parts.count > 2 && parts[2] != "lambda" ? "\(parts[2]) is not offered" : arn
            throw .invalid("DeadLetterConfig.TargetArn has to be the ARN of a function that is here: \(what)")
        }
        return name
    }
}
