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
    package var perSandbox: Int
    /// `none` or `egress`.
    package var network: String
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
    package var events: EventHandlingView?
    package var schedules: [ScheduleView]?
    /// Bytes; absent where it may not outgrow its memory.
    package var memoryBurst: Int64?
    /// Bytes; absent where nothing brakes it.
    package var memoryHigh: Int64?
    /// Bytes; absent where nothing is protected.
    package var memoryLow: Int64?
    /// Bytes a second; absent where that is not limited.
    package var ioRead: Int64?
    package var ioWrite: Int64?
    package var ioWeight: Int?
    package var cpuWeight: Int?
    package var pids: Int?
    /// Whether its idle sandboxes may be shrunk.
    package var reclaims: Bool?
    /// Set for a function that is a container image.
    package var image: ImageView?
    /// Where it listens, if it is an HTTP server.
    package var httpPort: Int?

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
        perSandbox: Int,
        network: String,
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
        self.perSandbox = perSandbox
        self.network = network
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

/// A container image, and how it is started.
package struct ImageView: Codable, Sendable, Equatable {
    package var id: String
    package var platform: String
    package var layers: Int
    package var entrypoint: [String]
    package var command: [String]
    package var workingDirectory: String
    package var environment: [String: String]
    package var exposedPorts: [Int]
    /// What the image says and sandboxes do not heed.
    package var user: String?
    package var stopSignal: String?

    package init(
        id: String,
        platform: String,
        layers: Int,
        entrypoint: [String],
        command: [String],
        workingDirectory: String,
        environment: [String: String],
        exposedPorts: [Int],
        user: String?,
        stopSignal: String?
    ) {
        self.id = id
        self.platform = platform
        self.layers = layers
        self.entrypoint = entrypoint
        self.command = command
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.exposedPorts = exposedPorts
        self.user = user
        self.stopSignal = stopSignal
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
    /// A published version's number; `nil` for what is deployed now.
    package var version: String?
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
    /// Its runtime's name, or `image`.
    package var runtime: String?
    /// `none` or `egress`; `nil` while it starts.
    package var network: String?
    /// Its IPv4 address, where it has egress.
    package var address: String?
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
    package struct Host: Codable, Sendable {
        /// `green`, `yellow`, `orange` or `red`.
        package var tier: String
        package var available: Int64
        package var swapFree: Int64
        package var swapTotal: Int64
        /// RAM that compressed swap takes for a byte of what it holds.
        package var compression: Double
        /// Percent of the time in which some, or all, tasks waited for memory.
        package var pressureSome: Double
        package var pressureFull: Double
    }

    /// What one function holds, and what reclaim has done to it.
    package struct Function: Codable, Sendable {
        package var name: String
        package var sandboxes = 0
        /// Promised by the ledger.
        package var held: Int64 = 0
        package var current: Int64 = 0
        package var swap: Int64 = 0
        /// Promises that shrinks gave back, ever.
        package var reclaimed: Int64 = 0
        /// Calls that woke a shrunk sandbox, and what that cost.
        package var wakes = 0
        package var refaultedPages: Int64 = 0
        package var wakePenaltyMs = 0.0
        /// How deep its idle sandboxes are shrunk, 0.1 to 1.
        package var depth = 1.0
        package init(name: String) { self.name = name }
    }

    /// Memory that went from one function to requests of another; `to` is `nil` when nobody in particular waited.
    package struct Flow: Codable, Sendable {
        package var from: String
        package var to: String?
        package var bytes: Int64
        package init(from: String, to: String?, bytes: Int64) {
            self.from = from
            self.to = to
            self.bytes = bytes
        }
    }

    package var budget: Int64
    package var promised: Int64
    package var free: Int64
    package var holders: [String: Int64]
    package var host: Host?
    package var functions: [Function] = []
    package var flows: [Flow] = []
    package init(budget: Int64, promised: Int64, free: Int64, holders: [String: Int64]) {
        self.budget = budget
        self.promised = promised
        self.free = free
        self.holders = holders
    }
}

extension LedgerView.Host {
    package init(
        tier: String,
        available: Int64,
        swap: (free: Int64, total: Int64),
        compression: Double,
        stalls: (some: Double, full: Double)
    ) {
        self.tier = tier
        self.available = available
        (swapFree, swapTotal) = swap
        self.compression = compression
        (pressureSome, pressureFull) = stalls
    }
}

/// Something that was decided, with the numbers it was decided from.
package struct DecisionView: Codable, Sendable {
    /// Counts decisions since the daemon started.
    package var seq: UInt64
    package var time: String
    package var kind: String
    package var sandbox: String?
    package var request: String?
    package var function: String?
    package var reason: String
    /// By name; the unit is the name's end.
    package var numbers: [String: Int64]
    package init(seq: UInt64, time: String, kind: String, reason: String, numbers: [String: Int64]) {
        self.seq = seq
        self.time = time
        self.kind = kind
        self.reason = reason
        self.numbers = numbers
    }
}

package struct DecisionList: Codable, Sendable {
    package var decisions: [DecisionView]
    package init(decisions: [DecisionView]) { self.decisions = decisions }
}
