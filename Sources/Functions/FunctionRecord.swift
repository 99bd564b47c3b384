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
    /// Requests that may run at once in one of its sandboxes.
    package var perSandbox: Int?
    /// What it sees at `/proc`; `nil` leaves it to its runtime.
    package var proc: ProcWish?
    package var network: NetworkAccess?
    /// What becomes of events that were accepted for later.
    package var events = EventHandling()
    package var schedules: [Schedule] = []
    package var tags: [String: String] = [:]
    /// Set for a function that is a container image, and how that is started.
    package var image: ImageSettings?
    /// Where its HTTP server listens inside; `nil` is the runtime's own place for it, or none.
    package var httpPort: Int?
    /// What is at `/opt`: later ones over earlier ones.
    package var layers: [FunctionLayer] = []
    /// Lambda's members that mean nothing here, kept so that clients read back what they wrote.
    package var role: String?
    package var lambdaRuntime: String?
    package var tracingMode: String?
    package var logging: LoggingWishes?

    package init(name: String, runtime: String, handler: String? = nil) {
        self.name = name
        self.runtime = runtime
        self.handler = handler
    }

    /// Members that a record of an older version lacks have their defaults.
    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        name = try values.decode(String.self, forKey: .name)
        runtime = try values.decode(String.self, forKey: .runtime)
        handler = try values.decodeIfPresent(String.self, forKey: .handler)
        description = try values.decodeIfPresent(String.self, forKey: .description)
        memory = try values.decodeIfPresent(Bytes.self, forKey: .memory)
        memoryBurst = try values.decodeIfPresent(Bytes.self, forKey: .memoryBurst)
        cpus = try values.decodeIfPresent(CPUQuota.self, forKey: .cpus)
        timeoutMs = try values.decodeIfPresent(Int.self, forKey: .timeoutMs)
        env = try values.decodeIfPresent([String: String].self, forKey: .env) ?? [:]
        tmp = try values.decodeIfPresent(Bytes.self, forKey: .tmp)
        concurrency = try values.decodeIfPresent(Int.self, forKey: .concurrency)
        minWarm = try values.decodeIfPresent(Int.self, forKey: .minWarm)
        perSandbox = try values.decodeIfPresent(Int.self, forKey: .perSandbox)
        proc = try values.decodeIfPresent(ProcWish.self, forKey: .proc)
        network = try values.decodeIfPresent(NetworkAccess.self, forKey: .network)
        events = try values.decodeIfPresent(EventHandling.self, forKey: .events) ?? EventHandling()
        schedules = try values.decodeIfPresent([Schedule].self, forKey: .schedules) ?? []
        tags = try values.decodeIfPresent([String: String].self, forKey: .tags) ?? [:]
        layers = try values.decodeIfPresent([FunctionLayer].self, forKey: .layers) ?? []
        image = try values.decodeIfPresent(ImageSettings.self, forKey: .image)
        httpPort = try values.decodeIfPresent(Int.self, forKey: .httpPort)
        role = try values.decodeIfPresent(String.self, forKey: .role)
        lambdaRuntime = try values.decodeIfPresent(String.self, forKey: .lambdaRuntime)
        tracingMode = try values.decodeIfPresent(String.self, forKey: .tracingMode)
        logging = try values.decodeIfPresent(LoggingWishes.self, forKey: .logging)
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

/// A function's own word on asynchronous events; `nil` leaves it to the operator.
package struct EventHandling: Codable, Sendable, Equatable {
    /// Attempts after the first one failed.
    package var retries: Int?
    package var maxAgeSeconds: Int?
    /// Where a record goes of what became of an event, as `Destination` reads it.
    package var onSuccess: String?
    package var onFailure: String?
    /// A function that gets the events themselves which were given up.
    package var deadLetter: String?
    /// When this was last changed but for `deadLetter`, in milliseconds since 1970; `nil` when it never was.
    package var modifiedMs: Int64?

    package init() {}
}

/// What a client wrote about the form of a function's log.
package struct LoggingWishes: Codable, Sendable, Equatable {
    package var format: String?
    package var applicationLevel: String?
    package var systemLevel: String?
    package var group: String?

    package init() {}
}

/// A function as it is registered, or one of its published versions.
package struct FunctionRecord: Codable, Sendable, Equatable {
    package var spec: FunctionSpec
    package var version = FunctionRecord.latest
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

    package static let latest = "$LATEST"

    /// A published version's number, as it is written: `01` is none.
    package static func number(_ version: String) -> Int? { Int(version).flatMap { String($0) == version ? $0 : nil } }

    /// What it needs of the `CodeStore`.
    package var digests: Set<String> {
        Set([codeSHA256] + spec.layers.map(\.sha256) + [layersDigest].compactMap(\.self))
    }

    /// The directory of its layers, by digest; `nil` when it has none.
    package var layersDigest: String? { LayerTree.digest(of: spec.layers.map(\.sha256)) }

    /// The code's digest as Lambda writes it.
    package var codeSHA256Base64: String { CodeBundle.base64(hex: codeSHA256) }

    /// What a published version keeps: all but what is said of the function as a whole.
    package var substance: Substance {
        var spec = spec
        (spec.concurrency, spec.minWarm, spec.tags) = (nil, nil, [:])
        (spec.events, spec.schedules) = (EventHandling(), [])
        return Substance(spec: spec, codeSHA256: codeSHA256)
    }

    package struct Substance: Codable, Sendable, Equatable {
        package var spec: FunctionSpec
        package var codeSHA256: String
    }
}
