// SPDX-License-Identifier: Apache-2.0
import FnClient
import FnProtocol
import Glibc
import Linux
import Synchronization

/// Asks the daemon once a second on a thread of its own, so that keys work while it does not answer.
final class TopFeed: Sendable {
    enum News: Sendable {
        case snapshot(TopSnapshot)
        case lost(String, at: String)
    }

    private let news = Mutex<News?>(nil)
    /// Readable when there is news.
    let descriptor: CInt
    private let bell: CInt

    init() throws {
        var ends: [CInt] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw Failure(.failed, "fn: no pipe: error \(errno)") }
        (descriptor, bell) = (ends[0], ends[1])
    }

    func start(_ client: HTTPClient) throws {
        try Thread.start(name: "top") { [self] in
            while true {
                sleep(1)
                let latest = Self.ask(client)
                news.withLock { $0 = latest }
                Console.write([0], to: bell)
            }
        }
    }

    func take() -> News? {
        var byte: UInt8 = 0
        _ = unsafe read(descriptor, &byte, 1)
        return news.withLock { news in
            defer { news = nil }
            return news
        }
    }

    private static func ask(_ client: HTTPClient) -> News {
        do {
            return .snapshot(
                try snapshot { path in
                    let answer = try client.call("GET", path)
                    guard answer.status == 200 else {
                        throw Failure(.failed, answer.error?.message ?? "it answers \(answer.status)")
                    }
                    return answer.body
                }
            )
        } catch let failure as Failure {
            return .lost(failure.message, at: clock())
        } catch let error as ClientError {
            return .lost(error.description, at: clock())
        } catch {
            return .lost("the daemon's answer could not be read", at: clock())
        }
    }

    static func snapshot(_ get: (String) throws -> [UInt8]) throws -> TopSnapshot {
        let list = try JSONText.decode(SandboxList.self, from: try get("/v1/sandboxes"))
        return TopSnapshot(
            sandboxes: list.sandboxes,
            limitsEnforced: list.limitsEnforced,
            ledger: try JSONText.decode(LedgerView.self, from: try get("/v1/ledger")),
            time: clock()
        )
    }

    /// The time of day here, `12:03:04`.
    private static func clock() -> String {
        var now = time(nil)
        var parts = unsafe tm()
        unsafe localtime_r(&now, &parts)
        return unsafe [parts.tm_hour, parts.tm_min, parts.tm_sec].map { String(100 + $0).suffix(2) }
            .joined(separator: ":")
    }
}
