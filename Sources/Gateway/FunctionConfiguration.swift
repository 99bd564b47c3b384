// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import Linux
import Policy
import Units

/// Lambda's `FunctionConfiguration`, with the members that its clients look at.
struct FunctionConfiguration: Encodable {
    struct Mode: Encodable { var Mode: String }
    struct Layer: Encodable {
        var Arn: String
        var CodeSize: Int64
    }
    struct Storage: Encodable { var Size: Int }
    struct SnapStart: Encodable {
        var ApplyOn = "None"
        var OptimizationStatus = "Off"
    }
    struct Logging: Encodable {
        var LogFormat: String
        var ApplicationLogLevel: String?
        var SystemLogLevel: String?
        var LogGroup: String

        init(_ wishes: LoggingWishes?, function: String) {
            LogFormat = wishes?.format ?? "Text"
            ApplicationLogLevel = wishes?.applicationLevel
            SystemLogLevel = wishes?.systemLevel
            LogGroup = wishes?.group ?? "/aws/lambda/\(function)"
        }
    }
    struct RuntimeVersion: Encodable { var RuntimeVersionArn: String }
    struct EnvironmentVariables: Encodable { var Variables: [String: String] }

    var FunctionName: String
    var FunctionArn: String
    /// Absent of container images.
    var Runtime: String?
    var Role: String
    var Handler: String?
    var CodeSize: Int64
    var Description: String
    var Timeout: Int
    var MemorySize: Int
    var LastModified: String
    var CodeSha256: String
    var Version: String
    var TracingConfig: Mode
    var RevisionId: String
    var State = "Active"
    /// `InProgress` while a living sandbox still has another size.
    var LastUpdateStatus: String
    var LastUpdateStatusReason: String?
    var PackageType: String
    var Architectures: [String]
    var EphemeralStorage: Storage
    var SnapStart = FunctionConfiguration.SnapStart()
    var RuntimeVersionConfig: RuntimeVersion?
    var LoggingConfig: Logging
    var Environment: EnvironmentVariables?
    var DeadLetterConfig: DeadLetterTarget?
    var Layers: [Layer]?

    /// - Parameter qualifier: what the function's ARN ends in.
    init(_ record: FunctionRecord, _ context: GatewayContext, qualifier: String? = nil) {
        let spec = record.spec
        let plan = PlanName.make(spec.name, version: record.version == FunctionRecord.latest ? nil : record.version)
        let deployed = context.catalog.planned(plan)
        let settings = context.catalog.settings
        FunctionName = spec.name
        FunctionArn = FunctionReference.arn(spec.name, qualifier: qualifier)
        Version = record.version
        TracingConfig = Mode(Mode: spec.tracingMode ?? "PassThrough")
        Runtime = spec.image == nil ? spec.lambdaRuntime ?? spec.runtime : nil
        PackageType = spec.image == nil ? "Zip" : "Image"
        Role = spec.role ?? "arn:aws:iam::\(FunctionReference.account):role/fn"
        Handler = spec.handler
        CodeSize = record.codeSize
        Description = spec.description ?? ""
        let timeout = deployed?.timeout.value ?? settings.defaults.timeout
        Timeout = Int((timeout.milliseconds + 999) / 1000)
        MemorySize = (deployed?.memory.value ?? settings.defaults.memory).mebibytes
        LastModified = String(WallClock.iso8601(record.lastModifiedMs).dropLast()) + "+0000"
        CodeSha256 = record.codeSHA256Base64
        RevisionId = record.revisionID
        let pending = context.pool.pending(plan)
        LastUpdateStatus = pending.isEmpty ? "Successful" : "InProgress"
        LastUpdateStatusReason =
            pending.isEmpty
            ? nil : "\(pending.count) sandboxes hold more than the new MemorySize; they follow at their next idle"
        Architectures = [RefusedMembers.architecture]
        EphemeralStorage = Storage(Size: (deployed?.tmp.value ?? settings.defaults.tmp).mebibytes)
        RuntimeVersionConfig = deployed.map { function in
            let place = "arn:aws:lambda:\(FunctionReference.region)::runtime"
            return RuntimeVersion(RuntimeVersionArn: "\(place):\(function.runtime.version)")
        }
        LoggingConfig = Logging(spec.logging, function: spec.name)
        Layers = spec.layers.isEmpty ? nil : spec.layers.map { Layer(Arn: $0.arn, CodeSize: $0.codeSize) }
        Environment = spec.env.isEmpty ? nil : EnvironmentVariables(Variables: spec.env)
        DeadLetterConfig = DeadLetterTarget(spec.events)
    }
}
