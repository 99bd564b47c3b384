// SPDX-License-Identifier: Apache-2.0
import Units

/// The operator's word on one function or on all that match a pattern; it beats what the developer deployed.
package struct FunctionOverride: Sendable, Equatable {
    package var memory: Bytes?
    package var memoryLow: Bytes?
    package var ioWeight: Int?
    /// Of these four the inner `nil` is a word, too: `auto`, `off` and `max`.
    package var memoryHigh: Bytes??
    package var memoryBurst: Bytes??
    package var ioRead: Bytes??
    package var ioWrite: Bytes??
    package var cpus: CPUQuota?
    package var cpuWeight: Int?
    package var pids: Int?
    package var tmp: Bytes?
    package var timeout: Duration?
    package var concurrency: Int?
    package var minWarm: Int?
    package var perSandbox: Int?
    package var network: NetworkAccess?
    /// `false` keeps idle sandboxes as they are.
    package var reclaim: Bool?

    package init() {}
}

/// The `functions` section: overrides by exact name or by a pattern that ends in `*`.
package struct FunctionOverrides: Sendable, Equatable {
    package var byPattern: [String: FunctionOverride] = [:]

    package init() {}

    /// The exact name's override, else that of the longest matching prefix, else an empty one.
    package func override(for name: String) -> FunctionOverride {
        if let exact = byPattern[name] { return exact }
        let matching = byPattern.filter { $0.key.hasSuffix("*") && name.hasPrefix($0.key.dropLast()) }
        return matching.max { $0.key.count < $1.key.count }?.value ?? FunctionOverride()
    }
}
