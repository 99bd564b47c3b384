// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import Linux
import Units

/// Lambda's `FunctionConfiguration`, with the members that its clients look at.
struct FunctionConfiguration: Encodable {
    struct Mode: Encodable { var Mode = "PassThrough" }
    struct Storage: Encodable { var Size: Int }
    struct SnapStart: Encodable {
        var ApplyOn = "None"
        var OptimizationStatus = "Off"
    }
    struct Logging: Encodable {
        var LogFormat = "Text"
        var LogGroup: String
    }
    struct EnvironmentVariables: Encodable { var Variables: [String: String] }

    var FunctionName: String
    var FunctionArn: String
    var Runtime: String
    var Role: String
    var Handler: String?
    var CodeSize: Int64
    var Description: String
    var Timeout: Int
    var MemorySize: Int
    var LastModified: String
    var CodeSha256: String
    var Version = "$LATEST"
    var TracingConfig = Mode()
    var RevisionId: String
    var State = "Active"
    /// `InProgress` while a living sandbox still has another size.
    var LastUpdateStatus: String
    var LastUpdateStatusReason: String?
    var PackageType = "Zip"
    var Architectures: [String]
    var EphemeralStorage: Storage
    var SnapStart = FunctionConfiguration.SnapStart()
    var LoggingConfig: Logging
    var Environment: EnvironmentVariables?
    var DeadLetterConfig: DeadLetterTarget?

    init(_ record: FunctionRecord, _ context: GatewayContext) {
        let spec = record.spec
        let deployed = context.catalog[spec.name]
        let settings = context.catalog.settings
        FunctionName = spec.name
        FunctionArn = FunctionReference.arn(spec.name)
        Runtime = spec.lambdaRuntime ?? spec.runtime
        Role = spec.role ?? "arn:aws:iam::\(FunctionReference.account):role/fn"
        Handler = spec.handler
        CodeSize = record.codeSize
        Description = spec.description ?? ""
        let timeout = deployed?.timeout.value ?? settings.defaults.timeout
        Timeout = Int((timeout.milliseconds + 999) / 1000)
        MemorySize = (deployed?.memory.value ?? settings.defaults.memory).mebibytes
        LastModified = String(WallClock.iso8601(record.lastModifiedMs).dropLast()) + "+0000"
        CodeSha256 = Base64.encode(Self.bytes(hex: record.codeSHA256))
        RevisionId = record.revisionID
        let pending = context.pool.pending(spec.name)
        LastUpdateStatus = pending.isEmpty ? "Successful" : "InProgress"
        LastUpdateStatusReason =
            pending.isEmpty
            ? nil : "\(pending.count) sandboxes hold more than the new MemorySize; they follow at their next idle"
        #if arch(arm64)
        Architectures = ["arm64"]
        #else
        Architectures = ["x86_64"]
        #endif
        EphemeralStorage = Storage(Size: (deployed?.tmp.value ?? settings.defaults.tmp).mebibytes)
        LoggingConfig = Logging(LogGroup: "/aws/lambda/\(spec.name)")
        Environment = spec.env.isEmpty ? nil : EnvironmentVariables(Variables: spec.env)
        DeadLetterConfig = DeadLetterTarget(spec.events)
    }

    private static func bytes(hex text: String) -> [UInt8] {
        let digits = Array(text.utf8)
        return stride(from: 0, to: digits.count - 1, by: 2)
            .compactMap { UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16) }
    }
}
