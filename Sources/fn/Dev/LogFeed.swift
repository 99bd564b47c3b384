// SPDX-License-Identifier: Apache-2.0
import FnClient
import FnProtocol
import Glibc
import Linux

/// A function's log as it is written, on standard output, by a thread of its own for as long as the program runs.
struct LogFeed: Sendable {
    private let client: HTTPClient
    private let path: String

    init(_ client: HTTPClient, function name: String) throws {
        self.client = client
        path = "/v1/functions/\(try DaemonAddress.encoded(name))/logs?follow=true&tail=0"
    }

    func start() throws {
        try Thread.start(name: "logs") { [self] in
            while true {
                var rest: [UInt8] = []
                _ = try? client.call("GET", path) { bytes in
                    rest += bytes
                    while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                        LogLine.show(Array(rest[..<end]))
                        rest.removeFirst(end + 1)
                    }
                }
                // The daemon was started anew, or will be.
                sleep(1)
            }
        }
    }
}
