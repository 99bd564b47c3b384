// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Dispatching
import FnProtocol
import Functions
import HTTP
import Linux
import NIOHTTP1
import Policy
import Pool

/// Provisioned concurrency: sandboxes of a version, or of an alias's versions, that are started ahead. Blocking.
struct LambdaProvisioned {
    let control: LambdaControl
    private var context: GatewayContext { control.context }

    private struct Answer: Encodable {
        var FunctionArn: String?
        var RequestedProvisionedConcurrentExecutions: Int
        var AvailableProvisionedConcurrentExecutions: Int
        var AllocatedProvisionedConcurrentExecutions: Int
        var Status: String
        var StatusReason: String?
        var LastModified: String
    }

    func answer(_ operation: LambdaOperation, _ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        if operation == .getProvisioned, request.query("List") == "ALL" { return try list(name, request) }
        let reference = try FunctionReference(name).checked(request.query("Qualifier"))
        guard let function = try context.deployments.registered(reference.name) else {
            throw LambdaError.notFound(FunctionReference.arn(reference.name))
        }
        guard let qualifier = reference.qualifier, qualifier != FunctionRecord.latest else {
            throw LambdaError.invalid(
                operation == .putProvisioned
                    ? "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
                    : "The function resource provided must be an alias or a published version."
            )
        }
        guard function.record(qualifier) != nil else {
            if Int(qualifier) == nil { throw FunctionsError.aliasNotFound(function: reference.name, name: qualifier) }
            throw LambdaError.notFound(reference.arn)
        }
        switch operation {
        case .putProvisioned: return try put(reference.name, qualifier, request)
        case .deleteProvisioned:
            _ = try context.deployments.unprovision(reference.name, qualifier)
            return control.done
        default:
            guard let record = function.provisioned.first(where: { $0.qualifier == qualifier }) else {
                throw LambdaError(
                    .notFound,
                    "ProvisionedConcurrencyConfigNotFoundException",
                    "No Provisioned Concurrency Config found for this function"
                )
            }
            return control.answer(.ok, view(record, of: function))
        }
    }

    private func put(_ name: String, _ qualifier: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct Members: Decodable { var ProvisionedConcurrentExecutions: Int }
        let members = try JSONText.decode(Members.self, from: request.body.readableBytesView)
        let count = members.ProvisionedConcurrentExecutions
        guard count > 0 else {
            throw LambdaError.validation(
                String(count),
                "provisionedConcurrentExecutions",
                "have value greater than or equal to 1"
            )
        }
        let record = ProvisionedRecord(
            function: name,
            qualifier: qualifier,
            requested: count,
            modifiedMs: WallClock.nowMs()
        )
        try context.deployments.provision(record)
        guard let function = try context.deployments.registered(name) else { throw FunctionsError.notFound(name) }
        return control.answer(.accepted, view(record, of: function))
    }

    private func list(_ name: String, _ request: HTTPRequest) throws -> HTTPResponse {
        struct List: Encodable {
            var ProvisionedConcurrencyConfigs: [Answer]
            var NextMarker: String?
        }
        let function = try control.unqualified(name, request)
        let page = try LambdaControl.page(of: function.provisioned, request, by: \.qualifier)
        let answers = page.items.map { record in
            var answer = view(record, of: function)
            answer.FunctionArn = FunctionReference.arn(record.function, qualifier: record.qualifier)
            return answer
        }
        return control.answer(.ok, List(ProvisionedConcurrencyConfigs: answers, NextMarker: page.next))
    }

    private func view(_ record: ProvisionedRecord, of function: RegisteredFunction) -> Answer {
        let totals = function.provisionedByVersion
        var sum = Provisioning()
        for (version, count) in function.counts(of: record) where count > 0 {
            let state = context.pool.provisioning(PlanName.make(record.function, version: version))
            // Several aliases may share a version: each has its part of what there is.
            let part = Double(count) / Double(totals[version] ?? count)
            sum.started += min(count, Int(Double(state.started) * part))
            sum.free += min(count, Int(Double(state.free) * part))
            sum.failures += state.failures
        }
        let isReady = sum.started >= record.requested
        return Answer(
            RequestedProvisionedConcurrentExecutions: record.requested,
            AvailableProvisionedConcurrentExecutions: sum.free,
            AllocatedProvisionedConcurrentExecutions: sum.started,
            Status: isReady ? "READY" : sum.failures > 0 ? "FAILED" : "IN_PROGRESS",
            StatusReason: isReady || sum.failures == 0
                ? nil : "FUNCTION_ERROR_INIT_FAILURE: \(sum.failures) starts in a row failed; it is tried again",
            LastModified: String(WallClock.iso8601(record.modifiedMs).dropLast()) + "+0000"
        )
    }
}
