// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Answers requests; called on the connection's event loop and must not block it.
package typealias HTTPHandler = @Sendable (HTTPRequest, HTTPResponder) -> Void

/// Where a server listens.
package enum ListenAddress: Sendable {
    case tcp(host: String, port: Int)
    case unix(path: String)
    /// A socket that already listens, such as one inside a sandbox's network namespace. The server owns it.
    case socket(CInt)
}

/// Set once, when the server stops taking requests.
final class ShutdownFlag: Sendable {
    private let flag = Atomic(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}

/// HTTP/1.1 over one listening socket: keep-alive, pipelining, bounded bodies and headers, graceful close.
package final class HTTPServer: Sendable {
    private let listener: any Channel
    private let connections: ConnectionSet
    private let shutdown: ShutdownFlag

    private init(listener: any Channel, connections: ConnectionSet, shutdown: ShutdownFlag) {
        self.listener = listener
        self.connections = connections
        self.shutdown = shutdown
    }

    /// The address it really listens on, with the port the kernel chose for port 0.
    package var localAddress: SocketAddress? { listener.localAddress }

    /// Binds and starts to accept.
    package static func start(
        on address: ListenAddress,
        group: any EventLoopGroup,
        configuration: HTTPServerConfiguration,
        handler: @escaping HTTPHandler
    ) -> EventLoopFuture<HTTPServer> {
        let connections = ConnectionSet(limit: configuration.maxConnections)
        let shutdown = ShutdownFlag()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptPause())
                }
            }
            .childChannelOption(.maxMessagesPerRead, value: configuration.readsAtOnce)
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 8192, maximum: 262_144)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let connection = HTTPConnection(configuration: configuration, shutdown: shutdown, handler: handler)
                    guard connections.add(channel, connection) else { throw ChannelError.ioOnClosedChannel }
                    if let tls = configuration.tls {
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls()))
                    }
                    try channel.pipeline.syncOperations.addHTTP(connection, configuration)
                }
            }
        return bind(bootstrap, address).map { HTTPServer(listener: $0, connections: connections, shutdown: shutdown) }
    }

    private static func bind(_ bootstrap: ServerBootstrap, _ address: ListenAddress) -> EventLoopFuture<any Channel> {
        switch address {
        case .tcp(let host, let port):
            bootstrap.childChannelOption(.socketOption(.tcp_nodelay), value: 1).bind(host: host, port: port)
        case .unix(let path): bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true)
        case .socket(let fd): bootstrap.childChannelOption(.socketOption(.tcp_nodelay), value: 1).withBoundSocket(fd)
        }
    }

    /// Stops accepting, lets requests in progress finish and closes idle connections.
    package func stopAccepting() {
        shutdown.set()
        listener.close(promise: nil)
        connections.closeIdle()
    }

    /// After `stopAccepting`: how many connections have a request or an answer under way. Answers without an end, such as
    /// followed logs, do not count.
    package var unfinished: EventLoopFuture<Int> { connections.unfinished(on: listener.eventLoop) }

    /// Closes the listener and every connection at once.
    package func close() {
        shutdown.set()
        listener.close(promise: nil)
        connections.closeAll()
    }

    /// How many connections are open now.
    package var connectionCount: Int { connections.count }
}

extension ChannelPipeline.SynchronousOperations {
    /// NIO's parser, with limits on header fields of our own; the rest of HTTP is the connection's.
    fileprivate func addHTTP(_ connection: HTTPConnection, _ configuration: HTTPServerConfiguration) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = configuration.maxHeaderField
        limits.maxHeaderListSize = configuration.maxHeaderList
        limits.maxHeaderFieldCount = configuration.maxHeaderCount
        try addHandler(ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)))
        try addHandler(connection)
    }
}
