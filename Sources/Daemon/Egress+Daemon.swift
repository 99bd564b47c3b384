// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Linux
import Logging
import NIOCore
import NIOPosix
import Sandbox
import Settings
import Synchronization

extension Settings {
    /// What sandboxes with egress may reach.
    var egressPolicy: EgressPolicy {
        var policy = EgressPolicy(subnet: network.subnet)
        policy.isRefused = network.egress == .refuse
        (policy.deny, policy.allow, policy.dns) = (network.deny, network.allow, network.dns)
        return policy
    }
}

extension EgressNetwork {
    /// Looks once a second whether the host's resolvers or interfaces are others; each trouble is told once.
    func follow(on loop: any EventLoop, workers: NIOThreadPool, log: Logger) {
        let told = ToldProblem()
        loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { [self] _ in
            workers.submit { [self] _ in
                var problem: String?
                do throws(SandboxError) { try refresh() } catch { problem = error.description }
                if told.isNew(problem), let problem { log.error("\(problem)") }
            }
        }
    }
}

/// What was told last, so that it is told once.
private final class ToldProblem: Sendable {
    private let last = Mutex<String?>(nil)

    func isNew(_ problem: String?) -> Bool {
        last.withLock { last in
            defer { last = problem }
            return last != problem
        }
    }
}

extension Doctor {
    /// Whether functions can reach the internet that ask for it.
    static func network(_ settings: Settings.Network, _ status: EgressNetwork.Status?) -> DoctorCheck {
        let name = "egress network"
        guard settings.egress == .allow else {
            return DoctorCheck(name, .pass, "refused to all functions (network.egress)")
        }
        guard Program.find("nft") != nil else {
            return DoctorCheck(
                name,
                .warn,
                "the program nft is missing: functions with `network: egress` cannot be deployed",
                fix: "apt-get install nftables"
            )
        }
        switch status {
        case .failed(let why):
            return DoctorCheck(name, .fail, why, fix: fix(why))
        case .ready(_, resolvers: []):
            return DoctorCheck(
                name,
                .warn,
                "functions find no names: the host's resolvers are on its own loopback, where no sandbox can reach them",
                fix: "set network.dns in fn.yaml to resolvers that other machines can reach"
            )
        case .ready(let sandboxes, let resolvers):
            let names = resolvers.map(\.description).joined(separator: ", ")
            return DoctorCheck(name, .pass, "set up for \(sandboxes) sandboxes; names from \(names)")
        case .unused, nil:
            return DoctorCheck(name, .pass, "set up when a function asks for it")
        }
    }

    /// What to do about it, by what the kernel said.
    private static func fix(_ why: String) -> String {
        if why.contains("network.subnet") { return "set network.subnet in fn.yaml, and start fnd again" }
        if why.contains("Read-only file system") {
            return
                "let fnd write /proc/sys/net: run its container with --privileged, or set net.ipv4.ip_forward=1 yourself"
        }
        if why.contains("Operation not permitted") { return "run fnd with CAP_NET_ADMIN and CAP_SYS_ADMIN" }
        return "modprobe -a veth nf_tables nft_chain_nat nft_masq nft_ct nft_fib_inet nft_reject_inet nft_connlimit"
    }
}
