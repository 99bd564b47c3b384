// SPDX-License-Identifier: Apache-2.0

/// A function as `fn` shows it: effective numbers, and whose word each of them is.
package struct FunctionView: Codable, Sendable, Equatable {
    package var name: String
    package var runtime: String
    package var handler: String?
    package var description: String?
    package var version: String
    /// Bytes.
    package var memory: Int64
    /// Thousandths of a CPU.
    package var cpus: Int
    package var timeoutMs: Int64
    /// Bytes.
    package var tmp: Int64
    package var concurrency: Int
    package var minWarm: Int
    /// By key: `function`, `default`, `operator` or `limit`.
    package var origins: [String: String]
    package var env: [String: String]
    package var codeSha256: String
    package var codeSize: Int64
    package var revision: Int
    package var revisionId: String
    package var lastModified: String
    package var limitsEnforced: Bool
    /// Limits that living sandboxes do not have yet.
    package var pending: [PendingLimit]
    package var sandboxes: Int

    package init(
        name: String,
        runtime: String,
        handler: String?,
        description: String?,
        version: String,
        memory: Int64,
        cpus: Int,
        timeoutMs: Int64,
        tmp: Int64,
        concurrency: Int,
        minWarm: Int,
        origins: [String: String],
        env: [String: String],
        codeSha256: String,
        codeSize: Int64,
        revision: Int,
        revisionId: String,
        lastModified: String,
        limitsEnforced: Bool,
        pending: [PendingLimit],
        sandboxes: Int
    ) {
        self.name = name
        self.runtime = runtime
        self.handler = handler
        self.description = description
        self.version = version
        self.memory = memory
        self.cpus = cpus
        self.timeoutMs = timeoutMs
        self.tmp = tmp
        self.concurrency = concurrency
        self.minWarm = minWarm
        self.origins = origins
        self.env = env
        self.codeSha256 = codeSha256
        self.codeSize = codeSize
        self.revision = revision
        self.revisionId = revisionId
        self.lastModified = lastModified
        self.limitsEnforced = limitsEnforced
        self.pending = pending
        self.sandboxes = sandboxes
    }
}

/// A limit that is meant to change and could not yet.
package struct PendingLimit: Codable, Sendable, Equatable {
    package var sandbox: String
    package var file: String
    /// Bytes.
    package var from: Int64
    package var to: Int64
    package var reason: String

    package init(sandbox: String, file: String, from: Int64, to: Int64, reason: String) {
        self.sandbox = sandbox
        self.file = file
        self.from = from
        self.to = to
        self.reason = reason
    }
}

/// A sandbox as the kernel sees it now. Sizes in bytes; `nil` is "not measured", for `high` and `max` "no limit".
package struct SandboxView: Codable, Sendable, Equatable {
    package var id: String
    package var function: String
    package var state: String
    package var pid: Int32
    package var startTime: UInt64
    package var cgroup: String
    package var current: Int64?
    package var high: Int64?
    package var max: Int64?
    package var swap: Int64?
    package var peak: Int64?
    /// What the ledger has promised it.
    package var held: Int64
    package var cpuMillis: Int?
    /// Percent of the last 10 s in which some of its tasks waited for memory.
    package var pressureSome: Double?
    package var ageMs: Int64
    package var idleMs: Int64?
    package var invocations: Int
    package var lastRequestId: String?
    package var limitsEnforced: Bool
    /// Bytes that its `memory.max` is meant to have.
    package var pending: Int64?

    package init(
        id: String,
        function: String,
        state: String,
        pid: Int32,
        startTime: UInt64,
        cgroup: String,
        held: Int64,
        ageMs: Int64,
        invocations: Int,
        limitsEnforced: Bool
    ) {
        self.id = id
        self.function = function
        self.state = state
        self.pid = pid
        self.startTime = startTime
        self.cgroup = cgroup
        self.held = held
        self.ageMs = ageMs
        self.invocations = invocations
        self.limitsEnforced = limitsEnforced
    }
}

package struct FunctionList: Codable, Sendable {
    package var functions: [FunctionView]
    package init(functions: [FunctionView]) { self.functions = functions }
}

package struct SandboxList: Codable, Sendable {
    package var sandboxes: [SandboxView]
    package var limitsEnforced: Bool
    package init(sandboxes: [SandboxView], limitsEnforced: Bool) {
        self.sandboxes = sandboxes
        self.limitsEnforced = limitsEnforced
    }
}

/// The ledger: the host's budget and who holds what of it. Bytes.
package struct LedgerView: Codable, Sendable {
    package var budget: Int64
    package var promised: Int64
    package var free: Int64
    package var holders: [String: Int64]
    package init(budget: Int64, promised: Int64, free: Int64, holders: [String: Int64]) {
        self.budget = budget
        self.promised = promised
        self.free = free
        self.holders = holders
    }
}
