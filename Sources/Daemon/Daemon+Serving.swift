// SPDX-License-Identifier: Apache-2.0
import Dispatching
import Gateway
import Glibc
import HTTP
import Linux
import Logging
import NIOCore
import Pool
import Settings
import Synchronization
import Telemetry
import Tracing
import Units

/// The doors: they open last and close first.
extension Daemon {
    /// Opens the doors.
    package func serve() throws {
        do {
            try begin()
        } catch {
            // Who cannot begin leaves no groups behind.
            try? tree.teardown()
            throw error
        }
    }

    private func begin() throws {
        let current = settings.current.settings
        let (host, port) = try Self.address(current.http.listen, "http.listen")
        if !context.limitsEnforced {
            for listen in [current.http.listen, current.metrics.listen].compactMap({ $0 })
            where !SettingsLoader.isLoopback(listen) {
                throw StartError.refused(
                    "--allow-unenforced-limits is for development: it needs a loopback address, not \(listen)"
                )
            }
            log.warning("limits are NOT enforced: this host has no usable cgroup v2 controllers")
        }
        // First: who waits for a dead daemon's socket waits for its ports too.
        try awaitSocket(current.socket.path)
        try open(.tcp(host: host, port: port), for: current.metrics.listen == nil ? .all : .allButMetrics)
        if let listen = current.metrics.listen {
            let (host, port) = try Self.address(listen, "metrics.listen")
            try open(.tcp(host: host, port: port), for: .metrics)
        }
        let directory = current.socket.path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        if directory.count > 1 || directory.first?.isEmpty == false {
            do throws(SyscallError) { try Directory.makeAll(directory.joined(separator: "/")) } catch {
                throw StartError.refused("socket.path: \(current.socket.path): \(error)")
            }
        }
        let owner = try Self.socketGroup(current.socket.group)
        // Again: somebody may have come while ports were waited for, and binding takes the name from whoever has it.
        try awaitSocket(current.socket.path)
        try open(.unix(path: current.socket.path), for: .all)
        ownSocket.withLock { $0 = FileIdentity(current.socket.path) }
        if let owner {
            do throws(SyscallError) {
                _ = try SyscallError.check("chown", current.socket.path, unsafe chown(current.socket.path, .max, owner))
            } catch {
                throw StartError.refused("socket.group: the socket cannot be given to its group: \(error)")
            }
        }
        _ = unsafe chmod(current.socket.path, UInt32(current.socket.mode, radix: 8) ?? 0o660)
        pool.start(
            pressureFile: KernelFile.exists("\(tree.pool.path)/memory.pressure")
                ? "\(tree.pool.path)/memory.pressure" : nil
        )
        context.runner.start(on: group.next())
        scheduler.start(on: group.next())
        let address = servers.withLock { $0.first?.localAddress?.port } ?? port
        let scheme = portGuard.identity == nil ? "http" : "https"
        log.notice(
            "serving on \(scheme)://\(host):\(address) (auth: \(current.auth.mode.rawValue)) and \(current.socket.path)"
        )
        warnOfOpenDoors(current)
        scheduleConfigCheck()
        scheduleSaving()
        scheduleLogFlush()
        egress.follow(on: group.next(), workers: workers, log: log)
        scheduleWatchdog()
        context.readiness.isServing()
        // After `CgroupTree` moved this process to a leaf: with a reload systemd makes a group of its own beside it.
        manager.isReady(status)
    }

    private static func address(_ text: String, _ key: String) throws(StartError) -> (host: String, port: Int) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]) else {
            throw .refused("\(key): '\(text)' is no address")
        }
        return (String(text[..<colon]), port)
    }

    /// Whose the Unix socket becomes; `nil` leaves it the daemon's own.
    private static func socketGroup(_ name: String?) throws(StartError) -> gid_t? {
        if let group = unsafe getgrnam(name ?? "fn") { return unsafe group.pointee.gr_gid }
        guard let name else { return nil }
        let message = "there is no group '\(name)' on this host: make it (groupadd), or name another one"
        throw .settings(SettingsErrors(problems: [SettingsProblem(source: "socket.group", message: message)]))
    }

    private var status: String {
        let current = settings.current.settings
        return "Serving on \(current.http.listen) and \(current.socket.path)"
    }

    /// Twice in the time that the service manager gives, if every event loop and the pool's lock answer. Workers are not
    /// asked: many deployments at once may keep all of them for longer than that, and are no reason to be killed.
    private func scheduleWatchdog() {
        guard let patience = manager.watchdog else { return }
        let (group, manager, pool) = (group, manager, pool)
        let half = TimeAmount.milliseconds(max(1, patience.milliseconds / 2))
        group.next()
            .scheduleRepeatedTask(initialDelay: .zero, delay: half) { _ in
                let loops = group.makeIterator().map { $0.submit {} }
                EventLoopFuture.andAllSucceed(loops, on: group.any())
                    .whenSuccess {
                        _ = pool.waiting
                        manager.isAlive()
                    }
            }
    }

    /// Ten times a second, what functions printed meanwhile goes to disk.
    private func scheduleLogFlush() {
        let log = context.log
        group.next()
            .scheduleRepeatedTask(initialDelay: .milliseconds(100), delay: .milliseconds(100)) { _ in log.writeSoon() }
    }

    private func warnOfOpenDoors(_ current: Settings) {
        if let keys = portGuard.keys?.current, keys.tokens.isEmpty, keys.keys.isEmpty {
            log.warning("\(current.auth.keys) names nobody: the port lets nobody in until it does")
        }
        if portGuard.identity == nil, current.auth.mode != .none, !SettingsLoader.isLoopback(current.http.listen) {
            log.warning(
                "tokens, code and answers cross the network in the clear: set http.tls.cert and http.tls.key, or serve behind a proxy that does"
            )
        }
    }

    /// Once a minute, and at the end.
    private func scheduleSaving() {
        group.next()
            .scheduleRepeatedTask(initialDelay: .minutes(1), delay: .minutes(1)) { [workers, self] _ in
                workers.submit { _ in self.saveLearning() }
            }
    }

    private func saveLearning() {
        do { try learning.save(pool.profiles) } catch { log.warning("what was learnt could not be kept: \(error)") }
    }

    private func open(_ address: ListenAddress, for doors: Gateway.Doors) throws {
        let current = settings.current.settings
        let isPort = if case .tcp = address { true } else { false }
        // The Unix socket is guarded by its permissions, and what goes over it leaves the machine in no way.
        let gateway = Gateway(
            context,
            isForBrowsers: isPort,
            isSecure: isPort && portGuard.identity != nil,
            access: isPort ? portGuard.access : nil,
            doors: doors
        )
        var configuration = HTTPServerConfiguration()
        configuration.maxConnections = current.http.maxConnections
        configuration.readTimeout = .milliseconds(current.http.readTimeout.milliseconds)
        configuration.idleTimeout = .milliseconds(current.http.idleTimeout.milliseconds)
        configuration.maxHeaderField = Int(current.http.maxHeader.count)
        configuration.maxHeaderList = Int(current.http.maxHeader.count)
        configuration.bodyLimit = { gateway.bodyLimit($0) }
        configuration.streamHandler = { gateway.streamHandler($0) }
        configuration.tooLarge = { gateway.tooLarge($0, $1) }
        if isPort, let identity = portGuard.identity { configuration.tls = { identity.current } }
        do {
            let server = try Predecessor.outlast(log) {
                do {
                    return
                        try HTTPServer.start(on: address, group: group, configuration: configuration) {
                            gateway.handle($0, $1)
                        }
                        .wait()
                } catch let error as IOError where error.errnoCode == EADDRINUSE {
                    throw Predecessor.Held(by: nil, refusal: .refused(Self.why(error, address)))
                }
            }
            servers.withLock { $0.append(server) }
        } catch let error as StartError {
            throw error
        } catch {
            throw StartError.refused(Self.why(error, address))
        }
    }

    private func awaitSocket(_ path: String) throws {
        var visit: LocalSocket.Visit?
        try Predecessor.outlast(log) {
            if visit?.isOver ?? true { visit = LocalSocket.visit(path) }
            guard let visit else { return }
            let refusal = StartError.refused(
                "socket.path: somebody listens at \(path) already, perhaps another fnd: give --socket another path"
            )
            throw Predecessor.Held(by: visit.process, refusal: refusal)
        }
    }

    /// Which setting it is, what the kernel says, and what to do.
    private static func why(_ error: any Error, _ address: ListenAddress) -> String {
        let (setting, place, flag) =
            switch address {
            case .tcp(let host, let port): ("http.listen or metrics.listen", "\(host):\(port)", "--listen")
            case .unix(let path): ("socket.path", path, "--socket")
            case .socket(let fd): ("socket", "\(fd)", "--socket")
            }
        let reason =
            switch error {
            case let error as IOError: unsafe String(cString: strerror(error.errnoCode))
            case _ where "\(error)".hasPrefix("UnixDomainSocketPathWrongType"):
                "there is a file of that name that is no socket"
            case SocketAddressError.unixDomainSocketPathTooLong: "the path is longer than the kernel's 107 bytes"
            default: "\(error)"
            }
        return "cannot listen on \(place) (\(setting)): \(reason); \(flag) takes another"
    }

    /// Looks once a second whether the file, the keys or the certificate are others.
    private func scheduleConfigCheck() {
        let (settings, portGuard, log, workers) = (settings, portGuard, log, workers)
        group.next()
            .scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
                workers.submit { _ in
                    portGuard.reloadIfChanged { what, problem in
                        guard let problem else { return log.info("the \(what) were read again") }
                        log.error("\(what) refused, those in force stay:\n\(problem)")
                    }
                    if case .refused(let errors) = settings.reloadIfChanged() {
                        log.error("config refused, the settings in force stay:\n\(errors)")
                    }
                }
            }
    }

    /// Reads the configuration again, as `SIGHUP` asks.
    package func reload() {
        manager.isReloading()
        defer { manager.isReady(status) }
        if case .refused(let errors) = settings.reload() {
            log.error("config refused, the settings in force stay:\n\(errors)")
        }
    }

    /// What was answered is still on its way, and what was asked for on a worker's hands.
    private func waitForAnswers(until deadline: ContinuousClock.Instant) {
        while ContinuousClock.now < deadline {
            let counts = servers.withLock { $0 }.map { (try? $0.unfinished.wait()) ?? 0 }
            guard counts.contains(where: { $0 > 0 }) else { return }
            KernelSleep.milliseconds(5)
        }
    }

    /// Closes the doors, lets running requests finish for a while, ends every sandbox, and leaves nothing behind.
    package func stop(patience: Duration = .seconds(20)) {
        context.readiness.isStopping()
        log.notice("stopping")
        manager.isStopping()
        for server in servers.withLock({ $0 }) { server.stopAccepting() }
        saveLearning()
        scheduler.stop()
        context.runner.stop()
        let deadline = ContinuousClock.now + patience
        pool.shutdown(patience: patience)
        waitForAnswers(until: deadline)
        for server in servers.withLock({ $0 }) { server.close() }
        tracer.exporter.stop(within: .seconds(3))
        launcher.shutdown()
        egress.shutdown()
        do { try tree.teardown() } catch { log.error("cgroups are left behind: \(error)") }
        events.shutdown()
        context.log.flush()
        registry.close()
        context.queue.close()
        let socket = settings.current.settings.socket.path
        if let own = ownSocket.withLock({ $0 }), own == FileIdentity(socket) { _ = unsafe unlink(socket) }
        close(lock)
        log.notice("stopped")
    }
}
