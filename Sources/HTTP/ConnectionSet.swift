// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Synchronization

/// The open connections of one server, counted against its limit and reachable for a graceful close.
final class ConnectionSet: Sendable {
    private struct Entry: Sendable {
        let channel: any Channel
        let connection: NIOLoopBound<HTTPConnection>
    }

    private let limit: Int
    private let entries = Mutex<[ObjectIdentifier: Entry]>([:])

    init(limit: Int) { self.limit = limit }

    var count: Int { entries.withLock { $0.count } }

    /// Registers a connection until its channel closes; `false` when there are too many.
    func add(_ channel: any Channel, _ connection: HTTPConnection) -> Bool {
        let key = ObjectIdentifier(channel)
        let entry = Entry(channel: channel, connection: NIOLoopBound(connection, eventLoop: channel.eventLoop))
        let accepted = entries.withLock { open in
            guard open.count < limit else { return false }
            open[key] = entry
            return true
        }
        guard accepted else { return false }
        channel.closeFuture.whenComplete { _ in self.entries.withLock { _ = $0.removeValue(forKey: key) } }
        return true
    }

    func closeIdle() {
        for entry in entries.withLock({ Array($0.values) }) {
            entry.channel.eventLoop.execute { entry.connection.value.closeIfIdle() }
        }
    }

    /// How many connections have something under way; asked of each on its loop.
    func unfinished(on loop: any EventLoop) -> EventLoopFuture<Int> {
        let asked = entries.withLock { Array($0.values) }
            .map { entry in entry.channel.eventLoop.submit { entry.connection.value.isUnfinished ? 1 : 0 } }
        return EventLoopFuture.reduce(0, asked, on: loop, +)
    }

    func closeAll() {
        for entry in entries.withLock({ Array($0.values) }) { entry.channel.close(promise: nil) }
    }
}
