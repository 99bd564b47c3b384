// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import Functions
import Settings
import Units

/// What `CreateFunction` and `UpdateFunctionConfiguration` say of a function.
struct FunctionMembers: Decodable {
    struct Variables: Decodable { var Variables: [String: String]? }
    struct Storage: Decodable { var Size: Int }
    struct Tracing: Decodable { var Mode: String? }
    struct Logging: Decodable {
        var LogFormat: String?
        var ApplicationLogLevel: String?
        var SystemLogLevel: String?
        var LogGroup: String?
    }

    var FunctionName: String?
    var Runtime: String?
    var Role: String?
    var Handler: String?
    var Description: String?
    var Timeout: Int?
    var MemorySize: Int?
    var Environment: Variables?
    var EphemeralStorage: Storage?
    var RevisionId: String?
    var Code: CodeMembers?
    var Tags: [String: String]?
    var Publish: Bool?
    var Layers: [String]?
    var TracingConfig: Tracing?
    var LoggingConfig: Logging?
    var DeadLetterConfig: DeadLetterTarget?

    /// - Parameter layers: what `Layers` names; `nil` leaves them as they are.
    func apply(to spec: inout FunctionSpec, runtime: String?, layers: [FunctionLayer]?) throws(LambdaError) {
        if let DeadLetterConfig { spec.events.deadLetter = try DeadLetterConfig.function() }
        if let runtime { (spec.runtime, spec.lambdaRuntime) = (runtime, Runtime) }
        spec.role = Role ?? spec.role
        spec.handler = Handler ?? spec.handler
        spec.description = Description ?? spec.description
        spec.timeoutMs = Timeout.map { $0 * 1000 } ?? spec.timeoutMs
        spec.memory = MemorySize.map { .mib(Int64($0)) } ?? spec.memory
        spec.env = Environment?.Variables ?? spec.env
        spec.tags = Tags ?? spec.tags
        spec.tmp = EphemeralStorage.map { .mib(Int64($0.Size)) } ?? spec.tmp
        spec.layers = layers ?? spec.layers
        spec.tracingMode = TracingConfig?.Mode ?? spec.tracingMode
        guard let given = LoggingConfig else { return }
        var logging = spec.logging ?? LoggingWishes()
        logging.format = given.LogFormat ?? logging.format
        logging.applicationLevel = given.ApplicationLogLevel ?? logging.applicationLevel
        logging.systemLevel = given.SystemLogLevel ?? logging.systemLevel
        logging.group = given.LogGroup ?? logging.group
        spec.logging = logging
    }

    /// Ranges, as Lambda's validation words them; the upper ends are the operator's.
    func checkRanges(_ limits: Settings.Limits) throws(LambdaError) {
        try Self.range("memorySize", MemorySize, 128, limits.memory.mebibytes)
        try Self.range("timeout", Timeout, 1, Int(limits.timeout.milliseconds / 1000))
        try Self.range("ephemeralStorage.size", EphemeralStorage?.Size, 512, 10_240)
        try Self.length("handler", Handler, 128)
        try Self.length("description", Description, 256)
        try Self.choice("tracingConfig.mode", TracingConfig?.Mode, ["Active", "PassThrough"])
        try Self.choice("loggingConfig.logFormat", LoggingConfig?.LogFormat, ["JSON", "Text"])
    }

    private static func range(_ name: String, _ value: Int?, _ least: Int, _ most: Int) throws(LambdaError) {
        guard let value else { return }
        guard value >= least else {
            throw .validation(String(value), name, "have value greater than or equal to \(least)")
        }
        guard value <= most else { throw .validation(String(value), name, "have value less than or equal to \(most)") }
    }

    private static func length(_ name: String, _ value: String?, _ most: Int) throws(LambdaError) {
        guard let value, value.count > most else { return }
        throw .validation(value, name, "have length less than or equal to \(most)")
    }

    private static func choice(_ name: String, _ value: String?, _ words: [String]) throws(LambdaError) {
        guard let value, !words.contains(value) else { return }
        throw .validation(value, name, "satisfy enum value set: [\(words.joined(separator: ", "))]")
    }
}

/// Where code is to come from.
struct CodeMembers: Decodable {
    var ZipFile: String?
}
