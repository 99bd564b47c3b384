// SPDX-License-Identifier: Apache-2.0
// Starts sandboxes as the daemon does, and says how long each took from the call to its program's first instruction.
//
//     launch-bench CGROUP STATE INIT BRIDGE IMAGE CODE [DESCRIPTORS [RESIDENT_MB]]
//
// CODE holds a program `first` that writes the time at its start (CLOCK_MONOTONIC, nanoseconds, 8 bytes). For each line
// `launch N` on standard input N sandboxes are started, one after the other with full pools, and N lines of microseconds
// come. For `take N` each has been started ahead of its code, as a prewarmed one of `provided`: what is timed then is that
// it is thawed, and gets its code, those limits that are written once, the word of its limits, and the answer to its
// question. (The pool's writes of memory and processor limits cost nothing here, where there are no controllers.)
// DESCRIPTORS and RESIDENT_MB make this process as large as a busy daemon.
import Cgroup
import Glibc
import Linux
import Sandbox
import Units

let arguments = CommandLine.arguments
guard arguments.count >= 7 else {
    print("usage: launch-bench CGROUP STATE INIT BRIDGE IMAGE CODE [DESCRIPTORS [RESIDENT_MB]]")
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
    bridgePath: arguments[4],
    egress: egress,
    readyNamespaces: 4
)
for _ in 0..<(arguments.count > 7 ? Int(arguments[7]) ?? 0 : 0) {
    _ = try Descriptor.open("/dev/null", O_RDONLY).release()
}
// Written, so that it is there.
let resident = [UInt8](repeating: 1, count: (arguments.count > 8 ? Int(arguments[8]) ?? 0 : 0) << 20)

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

/// What is begun, and when; its end is the program's first instruction.
func measured(_ sandbox: Sandbox, since began: Int64) throws -> Double {
    let output = sandbox.takeOutput()
    let first = firstInstruction(output)
    close(output)
    try sandbox.destroy()
    return Double(first - began) / 1000
}

func spec(_ number: Int, code: String?, arguments words: [String], environment: [String: String] = [:]) -> SandboxSpec {
    SandboxSpec(
        id: "first-\(number)",
        template: SandboxTemplate(name: "bench", imageRoot: arguments[5], runtimeDirectory: arguments[6]),
        codeDirectory: code,
        arguments: words,
        environment: environment,
        limits: SandboxLimits(memoryMax: .mib(64))
    )
}

func launch(_ number: Int) throws -> Double {
    launcher.waitUntilReady()
    let began = MonotonicClock.now()
    let sandbox = try launcher.launch(spec(number, code: arguments[6], arguments: ["/var/task/first"]))
    close(sandbox.takeRuntimeListener())
    return try measured(sandbox, since: began)
}

func take(_ number: Int) throws -> Double {
    launcher.waitUntilReady()
    let environment = ["FN_PREWARMED": "1", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"]
    let words = ["/.bridge", "/var/task/first"]
    let sandbox = try launcher.launch(spec(number, code: nil, arguments: words, environment: environment))
    let listener = sandbox.takeRuntimeListener()
    defer { close(listener) }
    _ = fcntl(listener, F_SETFL, 0)
    let connection = accept(listener, nil, nil)
    defer { close(connection) }
    var question = [UInt8](repeating: 0, count: 4096)
    guard unsafe read(connection, &question, question.count) > 0 else { fatalError("the bridge did not ask") }
    try sandbox.cgroup.freeze()
    while !sandbox.cgroup.isFrozen { usleep(100) }
    let text = #"{"environment":{"PATH":"/usr/bin:/bin"}}"#
    let answer = Array("HTTP/1.1 200 OK\r\ncontent-length: \(text.utf8.count)\r\n\r\n\(text)".utf8)

    let began = MonotonicClock.now()
    try sandbox.cgroup.thaw()
    try launcher.furnish(sandbox, codeDirectory: arguments[6], limits: SandboxLimits(memoryMax: .mib(64)))
    sandbox.control.announce(memory: .mib(64), cpu: nil, tmp: .mib(64))
    guard unsafe write(connection, answer, answer.count) == answer.count else { fatalError("the answer was not taken") }
    return try measured(sandbox, since: began)
}

var number = 0
while let line = readLine() {
    let words = line.split(separator: " ")
    guard words.count == 2, let count = Int(words[1]) else { break }
    for _ in 0..<count {
        number += 1
        print(try words[0] == "take" ? take(number) : launch(number))
    }
    fflush(nil)
}
launcher.shutdown()
try tree.teardown()
precondition(resident.allSatisfy { $0 == 1 })
