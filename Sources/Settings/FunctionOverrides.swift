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

    /// What is said of a function: each word by its exact name, else by the longest matching prefix that has it.
    package func override(for name: String) -> FunctionOverride {
        let matching = byPattern.filter { $0.key == name || $0.key.hasSuffix("*") && name.hasPrefix($0.key.dropLast()) }
        // A star counts as nothing: an exact name is longer than any prefix of it.
        return matching.sorted { ($0.key == name ? 1 : 0, $0.key.count) > ($1.key == name ? 1 : 0, $1.key.count) }
            .reduce(into: FunctionOverride()) { word, next in word.inherit(next.value) }
    }
}

extension FunctionOverride {
    /// Takes what another one says and this one does not.
    fileprivate mutating func inherit(_ other: FunctionOverride) {
        memory = memory ?? other.memory
        memoryLow = memoryLow ?? other.memoryLow
        memoryHigh = memoryHigh ?? other.memoryHigh
        memoryBurst = memoryBurst ?? other.memoryBurst
        ioRead = ioRead ?? other.ioRead
        ioWrite = ioWrite ?? other.ioWrite
        ioWeight = ioWeight ?? other.ioWeight
        cpus = cpus ?? other.cpus
        cpuWeight = cpuWeight ?? other.cpuWeight
        pids = pids ?? other.pids
        tmp = tmp ?? other.tmp
        timeout = timeout ?? other.timeout
        concurrency = concurrency ?? other.concurrency
        minWarm = minWarm ?? other.minWarm
        perSandbox = perSandbox ?? other.perSandbox
        network = network ?? other.network
        reclaim = reclaim ?? other.reclaim
    }
}
