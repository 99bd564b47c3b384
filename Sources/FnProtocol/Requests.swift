// SPDX-License-Identifier: Apache-2.0
import Units

/// What `fn deploy` sends: the code, and what the command line says over its `function.yaml`.
package struct DeployRequest: Codable, Sendable {
    package var limits = UpdateRequest()
    package var name: String?
    package var runtime: String?
    package var handler: String?
    /// The archive, base64.
    package var code: String

    package init(code: String) { self.code = code }
}

package struct DeployResult: Codable, Sendable {
    package var function: FunctionView
    package var created: Bool
    package var codeChanged: Bool
    /// What works, and the operator should know of.
    package var warning: String?
    package init(function: FunctionView, created: Bool, codeChanged: Bool, warning: String? = nil) {
        self.warning = warning
        self.function = function
        self.created = created
        self.codeChanged = codeChanged
    }
}

/// What `fn update` sends: only what is to change.
package struct UpdateRequest: Codable, Sendable {
    /// Bytes.
    package var memory: Int64?
    /// Bytes; 0 ends it.
    package var memoryBurst: Int64?
    /// Thousandths of a CPU.
    package var cpus: Int?
    package var timeoutMs: Int?
    /// Bytes.
    package var tmp: Int64?
    package var concurrency: Int?
    package var minWarm: Int?
    package var perSandbox: Int?
    /// `none` or `egress`.
    package var network: NetworkAccess?
    package var description: String?
    /// Replaces all variables.
    package var env: [String: String]?
    package init() {}
}

/// The answer to a request of ours that failed.
package struct ErrorBody: Codable, Sendable {
    package struct Detail: Codable, Sendable {
        package var code: String
        package var message: String
    }
    package var error: Detail
    package init(code: String, message: String) { error = Detail(code: code, message: message) }
}

/// One line of a function's log.
package struct LogLineView: Codable, Sendable {
    package var time: String
    package var requestId: String?
    package var sandbox: String?
    package var message: String

    package init(time: String, requestId: String?, sandbox: String?, message: String) {
        (self.time, self.requestId, self.sandbox, self.message) = (time, requestId, sandbox, message)
    }
}

/// One check of `fn doctor`.
package struct DoctorCheck: Codable, Sendable, Equatable {
    package enum Status: String, Codable, Sendable {
        case pass
        case warn
        case fail
    }
    package var name: String
    package var status: Status
    package var detail: String
    package var fix: String?
    package init(_ name: String, _ status: Status, _ detail: String, fix: String? = nil) {
        self.name = name
        self.status = status
        self.detail = detail
        self.fix = fix
    }
}

package struct DoctorReport: Codable, Sendable {
    package var checks: [DoctorCheck]
    package init(checks: [DoctorCheck]) { self.checks = checks }
    package var hasFailures: Bool { checks.contains { $0.status == .fail } }
}

/// The configuration in force.
package struct ConfigView: Codable, Sendable {
    package struct Value: Codable, Sendable {
        package var path: String
        package var value: String
        package var origin: String
        package var live: Bool
        package init(path: String, value: String, origin: String, live: Bool) {
            self.path = path
            self.value = value
            self.origin = origin
            self.live = live
        }
    }
    package var revision: Int
    package var values: [Value]
    package init(revision: Int, values: [Value]) {
        self.revision = revision
        self.values = values
    }
}

package struct ReloadView: Codable, Sendable {
    package struct Change: Codable, Sendable {
        package var path: String
        package var old: String
        package var new: String
        /// `live` or `needs-restart`.
        package var applied: String
        package init(path: String, old: String, new: String, applied: String) {
            self.path = path
            self.old = old
            self.new = new
            self.applied = applied
        }
    }
    package var accepted: Bool
    package var changes: [Change]
    package var errors: [String]
    package init(accepted: Bool, changes: [Change], errors: [String]) {
        self.accepted = accepted
        self.changes = changes
        self.errors = errors
    }
}

package struct VersionView: Codable, Sendable {
    package var version: String
    package init(version: String) { self.version = version }
}

/// The version of this build, of both programs.
package enum Version {
    package static let current = "0.1.0"
}
