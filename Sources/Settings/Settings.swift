// SPDX-License-Identifier: Apache-2.0
import Units

/// Everything an operator can tune, as one immutable value. What each member means stands in `Schema`.
package struct Settings: Sendable, Equatable {
    /// What a busy sandbox is charged.
    package enum Promises: String, Sendable, CaseIterable {
        /// Its contract: the sum of all `memory.max` never passes the budget.
        case strict
        /// What its function's calls have needed so far, with headroom.
        case measured
    }

    package struct Host: Sendable, Equatable {
        package var memory = Bytes.zero
        package var memoryReserve = Bytes.zero
        package var promises = Promises.strict
        /// `nil` is all there are.
        package var cpus: CPUQuota?
        package var pids = 0
        /// `nil` is all there is.
        package var swap: Bytes?
        package var overcommit = 0.0
    }

    package struct Defaults: Sendable, Equatable {
        package var memory = Bytes.zero
        package var memoryLow = Bytes.zero
        /// `nil` is `auto`: as much swap as memory.
        package var swap: Bytes?
        /// `memory.high` while a call runs; `nil` is `max`.
        package var memoryHigh: Bytes?
        /// What `memory.max` may run ahead to while a call needs more than `memory`; `nil` is not beyond it.
        package var memoryBurst: Bytes?
        package var cpus = CPUQuota.one
        /// `cpu.max` until the first request for work; `nil` is `auto`.
        package var initCPUs: CPUQuota?
        /// Bytes a second from and to the disk; `nil` is no limit.
        package var ioRead: Bytes?
        package var ioWrite: Bytes?
        package var ioWeight = 0
        package var cpuWeight = 0
        package var pids = 0
        package var tmp = Bytes.zero
        package var timeout = Duration.zero
        package var initTimeout = Duration.zero
        package var concurrency = 0
        package var minWarm = 0
        package var perSandbox = 1
        package var network = NetworkAccess.none
        package var retries = 0
        package var backoff: [Duration] = []
        package var maxEventAge = Duration.zero
        package var env: [String: String] = [:]
    }

    package struct Limits: Sendable, Equatable {
        package var memory = Bytes.zero
        package var cpus = CPUQuota.one
        package var timeout = Duration.zero
        package var concurrency = 0
        package var payload = Bytes.zero
        package var payloadAsync = Bytes.zero
        package var queue = Bytes.zero
        package var deliveryAttempts = 0
        package var destinationFile = Bytes.zero
        package var destinationHosts = ""
        package var response = Bytes.zero
        package var responseStream = Bytes.zero
        package var code = Bytes.zero
        package var unpackedCode = Bytes.zero
        package var image = Bytes.zero
        package var unpackedImage = Bytes.zero
        package var imageEntries = 0
        package var imageManifest = Bytes.zero
        package var env = Bytes.zero
    }

    package struct Reclaim: Sendable, Equatable {
        package enum Mode: String, Sendable, CaseIterable {
            case auto
            /// Only tells what it would do.
            case observe
            case off
        }

        package struct HostPressure: Sendable, Equatable {
            package var some = 0.0
            package var full = 0.0
            package var over = Duration.zero
        }

        package var mode = Mode.auto
        package var interval = Duration.zero
        package var idleAfter = Duration.zero
        package var hintTimeout = Duration.zero
        // Shares, from 0 to 1.
        package var target = 0.0
        package var ioTarget = 0.0
        package var step = 0.0
        package var backoff = 0.0
        package var floor = Bytes.zero
        /// Pages a second.
        package var refaults = 0.0
        package var swapStop = 0.0
        package var growStep = 0.0
        package var growHeadroom = 0.0
        package var hostPressure = HostPressure()
    }

    package struct Pools: Sendable, Equatable {
        package var freezeAfter = Duration.zero
        package var evictAfter = Duration.zero
        package var maxSandboxes = 0
        package var queueTimeout = Duration.zero
        package var events = 0
        package var readyNamespaces = 0
        /// Of each runtime that has no word of its own.
        package var prewarm = 0
        package var prewarmByRuntime: [String: Int] = [:]
    }

    package struct Network: Sendable, Equatable {
        package enum Egress: String, Sendable, CaseIterable {
            case allow
            case refuse
        }

        package var egress = Egress.allow
        package var subnet = IPv4Block(IPv4Address(raw: 0), prefix: 32)
        /// `nil` is the host's own.
        package var dns: [IPv4Address]?
        package var deny: [IPv4Block] = []
        package var allow: [IPv4Block] = []
    }

    package struct HTTP: Sendable, Equatable {
        package var listen = ""
        package var hosts = ""
        package var readTimeout = Duration.zero
        package var idleTimeout = Duration.zero
        package var maxConnections = 0
        package var maxHeader = Bytes.zero
        /// `nil` is plain HTTP.
        package var tlsCertificate: String?
        package var tlsKey: String?
    }

    package struct Auth: Sendable, Equatable {
        /// How clients on a port prove who they are.
        package enum Mode: String, Sendable, CaseIterable {
            case none
            /// `Authorization: Bearer`.
            case token
            /// AWS Signature Version 4.
            case sigv4
            /// Either.
            case any
        }

        package var mode = Mode.none
        package var keys = ""
        package var openUrls = false
    }

    package struct Socket: Sendable, Equatable {
        package var path = ""
        package var mode = ""
        /// `nil` is the group `fn` where there is one.
        package var group: String?
    }

    package struct Metrics: Sendable, Equatable {
        /// `nil` is where everything else is served.
        package var listen: String?
    }

    package struct Log: Sendable, Equatable {
        package enum Format: String, Sendable, CaseIterable {
            /// Pretty where standard error is a terminal, JSON elsewhere.
            case auto
            case pretty
            case json
        }

        package struct Functions: Sendable, Equatable {
            package enum Target: String, Sendable, CaseIterable {
                case file
                /// And the daemon's own log.
                case both
            }

            package var retain = Bytes.zero
            package var to = Target.file
        }

        package var level = ""
        package var format = Format.auto
        package var functions = Functions()
    }

    package struct Tracing: Sendable, Equatable {
        /// `nil` is no tracing.
        package var collector: Collector?
        /// From 0 to 1.
        package var sample = 0.0
        package var headersFile: String?

        package init() {}
    }

    package struct Storage: Sendable, Equatable {
        package var state = ""
        package var runtimes = ""
        package var images = ""
        package var destinations = ""
        package var keepResults = Duration.zero
        /// `nil` is all of them.
        package var keepVersions: Int?
    }

    package struct Web: Sendable, Equatable {
        package var enabled = true
    }

    package var host = Host()
    package var defaults = Defaults()
    package var limits = Limits()
    package var functions = FunctionOverrides()
    package var reclaim = Reclaim()
    package var pools = Pools()
    package var network = Network()
    package var http = HTTP()
    package var auth = Auth()
    package var socket = Socket()
    package var log = Log()
    package var metrics = Metrics()
    package var tracing = Tracing()
    package var storage = Storage()
    package var web = Web()

    package init() {}
}
