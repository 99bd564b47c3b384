// SPDX-License-Identifier: Apache-2.0
import Units

/// What a developer says about a function; `nil` leaves a value to the operator.
package struct FunctionSpec: Codable, Sendable, Equatable {
    package var name: String
    package var runtime: String
    package var handler: String?
    package var description: String?
    package var memory: Bytes?
    package var memoryBurst: Bytes?
    package var cpus: CPUQuota?
    package var timeoutMs: Int?
    package var env: [String: String] = [:]
    package var tmp: Bytes?
    package var concurrency: Int?
    package var minWarm: Int?
    /// Lambda's members that mean nothing here, kept so that clients read back what they wrote.
    package var role: String?
    package var lambdaRuntime: String?

    package init(name: String, runtime: String, handler: String? = nil) {
        self.name = name
        self.runtime = runtime
        self.handler = handler
    }

    /// Lambda's rule for names.
    package static func checkName(_ name: String) throws(FunctionsError) {
        let isRight =
            (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || byte == 0x2D || byte == 0x5F
            }
        guard isRight else {
            throw .invalid("'\(name)' is no function name: use 1 to 64 letters, digits, '-' and '_'")
        }
    }
}

/// A function as it is registered.
package struct FunctionRecord: Codable, Sendable, Equatable {
    package var spec: FunctionSpec
    package var version = "$LATEST"
    /// Counts changes, from 1.
    package var revision: Int
    /// A UUID that is another one after each change: for optimistic locking.
    package var revisionID: String
    /// SHA-256 of the archive, in hexadecimal; names the code in the `CodeStore`.
    package var codeSHA256: String
    package var codeSize: Int64
    /// Another number whenever running sandboxes have become outdated: new code, handler, runtime or environment.
    package var codeGeneration: Int
    package var lastModifiedMs: Int64
}
