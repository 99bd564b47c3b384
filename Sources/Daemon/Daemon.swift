// SPDX-License-Identifier: Apache-2.0
import CLinux
import Cgroup
import Dispatching
import FnProtocol
import Functions
import Gateway
import Glibc
import HTTP
import Linux
import Logging
import NIOCore
import NIOPosix
import Policy
import Pool
import Sandbox
import Settings
import Synchronization
import Telemetry
import Tracing
import Units

/// What keeps the daemon from starting, with what to do about it.
package enum StartError: Error, CustomStringConvertible {
    case settings(SettingsErrors)
    case refused(String)

    package var description: String {
        switch self {
        case .settings(let errors): errors.description
        case .refused(let why): "fnd: \(why)"
        }
    }
}

/// The wiring: builds every part in order, serves, and takes everything down again in the opposite order.
package final class Daemon: Sendable {
    private let settings: SettingsSource
    private let portGuard: PortGuard
    private let group: MultiThreadedEventLoopGroup
    private let workers: NIOThreadPool
    private let reclaimers: NIOThreadPool
    private let importers: NIOThreadPool
    private let tree: CgroupTree
    private let events: EventWatcher
    private let launcher: SandboxLauncher
    private let egress: EgressNetwork
    private let pool: SandboxPool
    private let registry: FunctionRegistry
    private let catalog: FunctionCatalog
    private let lock: Int32
    private let log: Logger
    private let daemonLog: DaemonLog
    private let environment: [String: String]
    private let tracer: Tracer
    private let servers = Mutex<[HTTPServer]>([])
    private let manager: ServiceManager

    /// Builds everything but the doors. Throws with nothing left running.
    package init(_ options: DaemonOptions, environment: [String: String]) throws {
        let (file, isRequired) = options.configPlace(environment)
        let machine = Machine.current
        settings = try Self.settings(file, isRequired, environment, options.flags, machine)
        manager = ServiceManager(environment)
        let current = settings.current.settings
        portGuard = try Self.portGuard(current)
        let daemonLog = DaemonLog(level: current.log.threshold, style: current.log.style(environment))
        LoggingSystem.bootstrap { _ in daemonLog.handler() }
        (self.daemonLog, self.environment) = (daemonLog, environment)
        log = Logger(label: "fnd")
        let places = Places(current, environment: environment)
        let state = current.storage.state
        lock = try Self.takeState(state)
        // Before anything is built that would have to be taken down: a damaged file ends it here.
        registry = try FunctionRegistry(stateDirectory: state)
        let queue = try EventQueue(stateDirectory: state)
        signal(SIGPIPE, SIG_IGN)
        // A sandbox takes about fifteen descriptors.
        _ = clinux_raise_descriptor_limit()
        clinux_not_dumpable()  // nobody else's debugger belongs in here

        tree = try CgroupTree.discover(allowUnenforced: options.allowUnenforcedLimits, base: options.cgroupRoot)
        for problem in tree.stuck { log.error("left behind by a former run: \(problem)") }
        events = try EventWatcher()
        for program in [places.initProgram, places.bridgeProgram] where !KernelFile.exists(program) {
            throw StartError.refused("\(program) is missing: `make build` compiles it beside fnd")
        }
        egress = EgressNetwork(stateDirectory: state, policy: current.egressPolicy)
        launcher = try SandboxLauncher(
            tree: tree,
            events: events,
            stateDirectory: state,
            initPath: places.initProgram,
            bridgePath: places.bridgeProgram,
            egress: egress,
            readyNamespaces: current.pools.readyNamespaces
        )
        // Half of the processors: functions want them too, and a call that crosses from one loop to another costs two more
        // wake-ups than one that does not.
        group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, System.coreCount / 2))
        workers = NIOThreadPool(numberOfThreads: 4)
        workers.start()
        reclaimers = NIOThreadPool(numberOfThreads: 2)
        reclaimers.start()
        importers = NIOThreadPool(numberOfThreads: 1)
        importers.start()

        let runtimes = try RuntimeCatalog(directory: places.runtimes)
        for problem in runtimes.problems { log.warning("\(problem)") }
        let limits = current.limits
        let store = try CodeStore(
            stateDirectory: state,
            limits: CodeLimits(archive: limits.code, unpacked: limits.unpackedCode)
        )
        store.onSweep { [launcher] in launcher.forget(imageRoot: $0) }
        let functionLog = try FunctionLog(directory: "\(state)/logs", retain: current.log.functionsRetain)
        let devices = BlockDevice.all([state, places.images])
        let factory = FunctionSandboxes(launcher: launcher, places: places, store: store, devices: devices)
        learning = LearningStore(path: "\(state)/learning.json")
        tracer = Tracer(
            SpanExporter(
                workers: workers,
                group: group,
                resource: [
                    ("service.name", "ebb"), ("service.version", Version.current), ("host.name", Self.hostName),
                ],
                version: Version.current,
                log: log
            )
        )
        tracer.configure(current.tracing)
        let (decisions, metrics) = (DecisionLog(), Metrics(Metrics.catalog))
        let epoch = String(UInt32(truncatingIfNeeded: WallClock.nowMs() / 1000), radix: 36).suffix(3)
        pool = SandboxPool(
            state: PoolState(
                budget: Self.budget(current, machine),
                limits: current.poolLimits,
                epoch: String(epoch),
                profiles: learning.load()
            ),
            group: group,
            workers: workers,
            reclaimers: reclaimers,
            events: events,
            cpus: machine.cpus,
            devices: devices,
            log: log,
            factory: SandboxFactory(
                start: { try factory.make($0, $1, $2, isProvisioned: $3) },
                assign: { try factory.assign($0, $1, $2) }
            ),
            sink: { functionLog.append(LogLine($2, sandbox: $1), function: $0) },
            onDecisions: { made in
                decisions.append(made)
                metrics.note(made)
            }
        )
        catalog = FunctionCatalog(
            runtimes: runtimes,
            settings: current,
            pool: pool,
            hasExtensions: { Directory.isDirectory("\(store.directory($0.codeSHA256))/extensions") }
        )
        let catalog = catalog
        factory.catalog.withLock { $0 = catalog }
        functionLog.keepOnly { catalog[$0] != nil }
        let egress = egress
        let deployments = Deployments(
            registry: registry,
            store: store,
            runtimes: runtimes,
            catalog: catalog,
            log: functionLog,
            requireEgress: { try egress.require() }
        )
        for name in try deployments.loadAll() { log.warning("function \(name) cannot run: its runtime is not there") }

        let (source, doctorTree, portGuard) = (settings, tree, portGuard)
        let dispatcher = Dispatcher(
            catalog: catalog,
            pool: pool,
            group: group,
            tracer: tracer,
            clock: { WallClock.nowMs() },
            onResult: { metrics.note($1, function: $0) }
        )
        let runner = EventRunner(
            queue: queue,
            dispatcher: dispatcher,
            catalog: catalog,
            workers: workers,
            group: group,
            tracer: tracer,
            clock: { WallClock.nowMs() },
            makeID: { RequestID.make() },
            log: log,
            onNote: { metrics.note($1, function: $0) }
        )
        scheduler = Scheduler(
            queue: queue,
            catalog: catalog,
            workers: workers,
            clock: { WallClock.nowMs() },
            arn: { FunctionARN.make($0) },
            onAccept: { runner.poke() },
            log: log
        )
        context = GatewayContext(
            catalog: catalog,
            dispatcher: dispatcher,
            queue: queue,
            runner: runner,
            deployments: deployments,
            pool: pool,
            log: functionLog,
            decisions: decisions,
            metrics: metrics,
            settings: settings,
            tracer: tracer,
            doctor: {
                var problems = portGuard.problems
                if case .refused(let errors) = source.lastResult { problems.insert(errors.description, at: 0) }
                let problem = problems.isEmpty ? nil : problems.joined(separator: "\n")
                let settings = source.current.settings
                return Doctor(
                    settings: settings,
                    places: places,
                    configProblem: problem,
                    tree: doctorTree,
                    egress: egress.status
                )
                .report()
            },
            limitsEnforced: tree.enforced,
            workers: workers,
            images: ImageIntake(deployments: deployments, settings: settings, workers: workers, importers: importers)
        )
        pool.setLimits(current.poolLimits, hintTimeout: current.reclaim.hintTimeout)
        watchSettings(machine)
        let (images, group, log) = (places.images, tree.images, log)
        workers.submit { _ in ImagePreload.perform(runtimes, images: images, group: group, log: log) }
    }

    private let context: GatewayContext
    private let scheduler: Scheduler
    private let learning: LearningStore

    private static func settings(
        _ file: String,
        _ isRequired: Bool,
        _ environment: [String: String],
        _ flags: [String: String],
        _ machine: Machine
    ) throws(StartError) -> SettingsSource {
        do throws(SettingsErrors) {
            return try SettingsSource(
                file: file,
                isRequired: isRequired,
                environment: environment,
                flags: flags,
                machine: machine
            )
        } catch {
            throw .settings(error)
        }
    }

    private static func portGuard(_ settings: Settings) throws(StartError) -> PortGuard {
        do throws(SettingsErrors) {
            return try PortGuard(settings)
        } catch {
            throw .settings(error)
        }
    }

    /// One daemon for one state directory.
    private static func takeState(_ directory: String) throws -> Int32 {
        let path = "\(directory)/lock"
        let fd: Int32
        do throws(SyscallError) {
            try Directory.makeAll(directory, mode: 0o750)
            fd = try SyscallError.check("open", path, unsafe Glibc.open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o600))
        } catch {
            throw StartError.refused(
                "the state directory \(directory) cannot be written (\(error)): make it writable, or name another one "
                    + "(--state, storage.state in fn.yaml)"
            )
        }
        // Not flock(2): what a killed daemon was just starting has a copy of its descriptors for a moment longer, and with
        // them such a lock. This one belongs to the process alone.
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        guard unsafe fcntl(fd, F_SETLK, &lock) == 0 else {
            throw StartError.refused("\(directory) is in use by another fnd; stop it, or give this one another --state")
        }
        return fd
    }

    /// What the sandboxes may be promised: the operator's share, and never what is reserved for the host.
    private static func budget(_ settings: Settings, _ machine: Machine) -> Bytes {
        min(settings.host.memory, max(.mib(64), machine.memory - settings.host.memoryReserve))
    }

    private static var hostName: String {
        (try? KernelFile.read("/proc/sys/kernel/hostname"))?.filter { !$0.isNewline } ?? "localhost"
    }

    private func watchSettings(_ machine: Machine) {
        let (pool, catalog, launcher, egress, log) = (pool, catalog, launcher, egress, log)
        let (daemonLog, tracer, environment) = (daemonLog, tracer, environment)
        settings.onChange { loaded, changes in
            daemonLog.set(level: loaded.settings.log.threshold, style: loaded.settings.log.style(environment))
            tracer.configure(loaded.settings.tracing)
            launcher.setReadyNamespaces(loaded.settings.pools.readyNamespaces)
            // Before the functions hear of it: what starts from here on must find it in force.
            do { try egress.apply(loaded.settings.egressPolicy) } catch { log.error("\(error)") }
            pool.setLimits(loaded.settings.poolLimits, hintTimeout: loaded.settings.reclaim.hintTimeout)
            pool.setBudget(Self.budget(loaded.settings, machine))
            catalog.apply(loaded.settings)
            for change in changes {
                log.info(
                    "config reload rev \(loaded.revision): \(change.path) \(change.old) -> \(change.new) \(change.isApplied ? "[applied]" : "[needs restart]")"
                )
            }
        }
    }

    // MARK: Serving

    /// Opens the doors.
    package func serve() throws {
        let current = settings.current.settings
        guard let colon = current.http.listen.lastIndex(of: ":"),
            let port = Int(current.http.listen[current.http.listen.index(after: colon)...])
        else {
            throw StartError.refused("http.listen: '\(current.http.listen)' is no address")
        }
        let host = String(current.http.listen[..<colon])
        if !context.limitsEnforced {
            guard SettingsLoader.isLoopback(current.http.listen) else {
                throw StartError.refused(
                    "--allow-unenforced-limits is for development: it needs a loopback address, not \(current.http.listen)"
                )
            }
            log.warning("limits are NOT enforced: this host has no usable cgroup v2 controllers")
        }
        try open(.tcp(host: host, port: port))
        try Directory.makeAll(current.socket.path.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" })
        try open(.unix(path: current.socket.path))
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
        // After `CgroupTree` moved this process to a leaf: with a reload systemd makes a group of its own beside it.
        manager.isReady(status)
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
        let (log, workers) = (context.log, workers)
        group.next()
            .scheduleRepeatedTask(initialDelay: .milliseconds(100), delay: .milliseconds(100)) { _ in
                guard log.hasPending else { return }
                workers.submit { _ in log.flush() }
            }
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

    private func open(_ address: ListenAddress) throws {
        let current = settings.current.settings
        let isPort = if case .tcp = address { true } else { false }
        // The Unix socket is guarded by its permissions, and what goes over it leaves the machine in no way.
        let gateway = Gateway(
            context,
            isForBrowsers: isPort,
            isSecure: isPort && portGuard.identity != nil,
            access: isPort ? portGuard.access : nil
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
            let server =
                try HTTPServer.start(on: address, group: group, configuration: configuration) { gateway.handle($0, $1) }
                .wait()
            servers.withLock { $0.append(server) }
        } catch {
            throw StartError.refused("cannot listen on \(address): \(error)")
        }
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

    /// Closes the doors, lets running requests finish for a while, ends every sandbox, and leaves nothing behind.
    package func stop(patience: Duration = .seconds(20)) {
        log.notice("stopping")
        manager.isStopping()
        for server in servers.withLock({ $0 }) { server.stopAccepting() }
        saveLearning()
        scheduler.stop()
        context.runner.stop()
        pool.shutdown(patience: patience)
        for server in servers.withLock({ $0 }) { server.close() }
        tracer.exporter.stop(within: .seconds(3))
        launcher.shutdown()
        egress.shutdown()
        do { try tree.teardown() } catch { log.error("cgroups are left behind: \(error)") }
        events.shutdown()
        context.log.flush()
        registry.close()
        context.queue.close()
        _ = unsafe unlink(settings.current.settings.socket.path)
        close(lock)
        log.notice("stopped")
    }
}

extension LogLine {
    /// What a sandbox printed now.
    fileprivate init(_ line: OutputLine, sandbox: SandboxID) {
        self.init(
            time: WallClock.iso8601(WallClock.nowMs()),
            requestId: line.requestID,
            sandbox: sandbox.description,
            message: String(decoding: line.bytes, as: UTF8.self)
        )
    }
}

extension Settings.Log {
    fileprivate var threshold: Logger.Level { Logger.Level(rawValue: level) ?? .info }

    fileprivate func style(_ environment: [String: String]) -> DaemonLog.Style {
        switch format {
        case .auto: DaemonLog.automatic(isTerminal: isatty(2) == 1, environment: environment)
        case .pretty: .pretty(colours: isatty(2) == 1 && DaemonLog.hasColours(environment))
        case .json: .json
        }
    }
}

extension Settings {
    /// What the pool has to know.
    var poolLimits: PoolLimits {
        PoolLimits(
            maxSandboxes: pools.maxSandboxes,
            idleAfter: reclaim.idleAfter,
            evictAfter: pools.evictAfter,
            reclaims: reclaim.mode == .auto,
            isMeasured: host.promises == .measured,
            prewarmedMost: pools.prewarm
        )
    }
}
