// SPDX-License-Identifier: Apache-2.0
// Starts sandboxes as the daemon does, and says how long each took from the call to its program's first instruction.
//
//     launch-bench CGROUP STATE INIT IMAGE CODE [DESCRIPTORS [RESIDENT_MB]]
//
// CODE holds a program `first` that writes the time at its start (CLOCK_MONOTONIC, nanoseconds, 8 bytes). For each line
// `N` on standard input N sandboxes are started, one after the other with full pools, and N lines of microseconds come.
// DESCRIPTORS and RESIDENT_MB make this process as large as a busy daemon.
import Cgroup
import Glibc
import Linux
import Sandbox
import Units

let arguments = CommandLine.arguments
guard arguments.count >= 6 else {
    print("usage: launch-bench CGROUP STATE INIT IMAGE CODE [DESCRIPTORS [RESIDENT_MB]]")
    exit(64)
}
let tree = try CgroupTree.discover(allowUnenforced: true, base: arguments[1])
let egress = EgressNetwork(
    stateDirectory: arguments[2],
    policy: EgressPolicy(subnet: IPv4Block(IPv4Address(raw: 0), prefix: 32))
)
let launcher = try SandboxLauncher(
    tree: tree,
    events: try EventWatcher(),
    stateDirectory: arguments[2],
    initPath: arguments[3],
    bridgePath: arguments[3],
    egress: egress,
    readyNamespaces: 4
)
for _ in 0..<(arguments.count > 6 ? Int(arguments[6]) ?? 0 : 0) {
    _ = try Descriptor.open("/dev/null", O_RDONLY).release()
}
// Written, so that it is there.
let resident = [UInt8](repeating: 1, count: (arguments.count > 7 ? Int(arguments[7]) ?? 0 : 0) << 20)

func firstInstruction(_ output: CInt) -> Int64 {
    var (time, got) = (Int64(0), 0)
    while got < 8 {
        var ready = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&ready, 1, 10_000) > 0 else { fatalError("the program did not start within 10 s") }
        let count = unsafe withUnsafeMutableBytes(of: &time) {
            unsafe read(output, $0.baseAddress?.advanced(by: got), 8 - got)
        }
        guard count > 0 else { fatalError("the program ended before it began") }
        got += count
    }
    return time
}

func launch(_ number: Int) throws -> Double {
    launcher.waitUntilReady()
    let began = MonotonicClock.now()
    let sandbox = try launcher.launch(
        SandboxSpec(
            id: "first-\(number)",
            template: SandboxTemplate(name: "bench", imageRoot: arguments[4], runtimeDirectory: arguments[5]),
            codeDirectory: arguments[5],
            arguments: ["/var/task/first"],
            limits: SandboxLimits(memoryMax: .mib(64))
        )
    )
    let output = sandbox.takeOutput()
    let first = firstInstruction(output)
    close(output)
    close(sandbox.takeRuntimeListener())
    try sandbox.destroy()
    return Double(first - began) / 1000
}

var number = 0
while let line = readLine(), let count = Int(line) {
    for _ in 0..<count {
        number += 1
        print(try launch(number))
    }
    fflush(nil)
}
launcher.shutdown()
try tree.teardown()
precondition(resident.allSatisfy { $0 == 1 })
