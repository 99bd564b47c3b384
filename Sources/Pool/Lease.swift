// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOCore
import Policy
import Reclaim
import RuntimeAPI
import Sandbox
import Units

/// The right to run one request in one sandbox.
///
/// Given by the pool once; it ends by itself when the runtime asks for its next work or when the sandbox ends, so there
/// is nothing to forget.
package struct Lease: Sendable {
    package let sandbox: PooledSandbox
    package let token: LeaseToken
    package let start: StartKind
    /// `memory.max` while the request runs.
    package let contract: Bytes
    /// What was done to the sandbox for this request before it was granted.
    package var steps: [LimitStep] = []

    /// Dispatches the invocation; `onEnd` is told once how it ended, on an event loop or the kernel event thread.
    package func run(_ invocation: RuntimeInvocation, onEnd: @escaping @Sendable (InvocationEnd) -> Void) {
        sandbox.run(invocation, onEnd: onEnd)
    }
}

/// How an invocation ended, seen from its sandbox.
package enum InvocationEnd: Sendable {
    case answered(RuntimeAnswer, InvocationUsage)
    /// The process ended before it answered.
    case exited(SandboxExit)
}

/// What one invocation used.
package struct InvocationUsage: Sendable {
    /// The highest `memory.current` during the invocation, where the kernel can tell; else of the sandbox's life.
    package var peak: Bytes?
    /// How far `memory.max` ran ahead of the contract for it, and in how many steps (`memory_burst`).
    package var grownTo: Bytes?
    package var growthSteps = 0

    init(peak: Bytes?) { self.peak = peak }
}

/// How a sandbox ended.
package struct SandboxExit: Sendable {
    package var status: ExitStatus
    /// Whether the kernel killed it for memory (`memory.events`: `oom_kill`).
    package var outOfMemory: Bool
    package var limit: Bytes
    package var peak: Bytes?
    package var logTail: [UInt8]
    /// The document of `init/error`, if the runtime sent one.
    package var initError: (document: ByteBuffer, type: String?)?
    /// Set when we ended it because it did not ask for work in time.
    package var initTimeout: Duration?
    /// Set when it ended because an extension did, or could not begin as its image is.
    package var fault: FunctionFault?
    /// When it was started; for one that had been prewarmed, when it became its function's.
    package var start: StartTimes
    /// Cold or prewarmed: what a request waited for whose start failed.
    package var startKind = StartKind.cold
    /// Set when it was ended for the fault of one request: what the others in it are told.
    package var cause: String?
}

/// When a sandbox was started, in nanoseconds of `MonotonicClock`.
package struct StartTimes: Sendable, Equatable {
    /// It began to be made.
    package var launch: Int64
    /// Its process ran.
    package var created: Int64
    /// It asked for work for the first time.
    package var ready: Int64?

    package init(launch: Int64, created: Int64, ready: Int64? = nil) {
        (self.launch, self.created, self.ready) = (launch, created, ready)
    }
}

/// Why what belongs to a function, but is not its runtime, ended its sandbox.
package struct FunctionFault: Sendable, Equatable {
    /// Lambda's name: `Extension.Crash`, `Extension.InitError`, `Extension.ExitError`, `Runtime.InvalidWorkingDir`.
    package var type: String
    /// One clause.
    package var reason: String
}

/// What became of a wish for a sandbox.
package enum LeaseOutcome: Sendable {
    case granted(Lease)
    case refused(PoolRefusal)
    /// The sandbox started for it ended before it asked for work.
    case initFailed(SandboxExit)
    /// No sandbox could be started: the platform's fault, with the reason.
    case cannotStart(String)
}
