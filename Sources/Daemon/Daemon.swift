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
    /// It was told to stop before it began.
    case stopped

    package var description: String {
        switch self {
        case .settings(let errors): errors.description
        case .refused(let why): "fnd: \(why)"
        case .stopped: "fnd: stopped before it began"
        }
    }
}

/// The wiring: builds every part in order, serves, and takes everything down again in the opposite order.
package final class Daemon: Sendable {
    let settings: SettingsSource
    let portGuard: PortGuard
    let group: MultiThreadedEventLoopGroup
    let workers: NIOThreadPool
    let reclaimers: NIOThreadPool
    let importers: NIOThreadPool
    let logWriters: NIOThreadPool
    let tree: CgroupTree
    let events: EventWatcher
    let launcher: SandboxLauncher
    let egress: EgressNetwork
    let pool: SandboxPool
    let registry: FunctionRegistry
    let catalog: FunctionCatalog
    let lock: Int32
    /// The socket that this daemon made: another one's, at the same path, is not removed.
    let ownSocket = Mutex<FileIdentity?>(nil)
    let log: Logger
    let daemonLog: DaemonLog
    let environment: [String: String]
    let tracer: Tracer
    let servers = Mutex<[HTTPServer]>([])
    let manager: ServiceManager

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
        lock = try Self.takeState(state, log)
        // Before anything is built that would have to be taken down: a damaged or missing file ends it here.
        registry = try FunctionRegistry(stateDirectory: state)
        let queue = try EventQueue(stateDirectory: state)
        let runtimes = try RuntimeCatalog(directory: places.runtimes)
        for program in [places.initProgram, places.bridgeProgram] where !KernelFile.exists(program) {
            throw StartError.refused("\(program) is missing: `make build` compiles it beside fnd")
        }
        signal(SIGPIPE, SIG_IGN)
        // A sandbox takes about fifteen descriptors.
        _ = clinux_raise_descriptor_limit()
        clinux_not_dumpable()  // nobody else's debugger belongs in here

        tree = try CgroupTree.discover(allowUnenforced: options.allowUnenforcedLimits, base: options.cgroupRoot)
        try tree.setTotals(cpu: current.host.cpus, pids: current.host.pids, swap: current.host.swap)
        for problem in tree.stuck { log.error("left behind by a former run: \(problem)") }
        events = try EventWatcher()
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
        logWriters = NIOThreadPool(numberOfThreads: 1)
        logWriters.start()

        for problem in runtimes.problems { log.warning("\(problem)") }
        let store = try CodeStore(
            stateDirectory: state,
            limits: current.codeLimits
        )
        store.onSweep { [launcher] in launcher.forget(imageRoot: $0) }
        let functionLog = try FunctionLog(
            directory: "\(state)/logs",
            retain: current.log.functions.retain,
            run: { [logWriters] body in logWriters.submit { _ in body() } }
        )
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
            sink: { [settings, log] function, sandbox, output in
                let line = LogLine(output, sandbox: sandbox)
                functionLog.append(line, function: function)
                if settings.read({ $0.log.functions.to }) == .both { log.show(line, of: function) }
            },
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
            isRegistered: { [registry] name in
                // Where that cannot be read, nothing is given up for it.
                do { return try registry.registered(name) != nil } catch { return true }
            },
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
        pool.setLimits(current.poolLimits, pace: current.poolPace)
        watchSettings(machine, store, runtimes)
        Self.warnOfPrewarming(current, runtimes, log)
        let (images, group, log) = (places.images, tree.images, log)
        workers.submit { _ in ImagePreload.perform(runtimes, images: images, group: group, log: log) }
    }

    let context: GatewayContext
    let scheduler: Scheduler
    let learning: LearningStore

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
    private static func takeState(_ directory: String, _ log: Logger) throws -> Int32 {
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
        // Not flock(2): what a killed daemon has started has copies of its descriptors, and with them such a lock.
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        try Predecessor.outlast(log) {
            guard unsafe fcntl(fd, F_SETLK, &lock) != 0 else { return }
            var other = lock
            let isKnown = unsafe fcntl(fd, F_GETLK, &other) == 0 && other.l_type != Int16(F_UNLCK) && other.l_pid > 0
            throw Predecessor.Held(
                by: isKnown ? other.l_pid : nil,
                refusal: .refused("\(directory) is in use by another fnd; stop it, or give this one another --state")
            )
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

    /// Only a daemon knows its runtimes: a name that is none of them would else be no more than that none is started.
    private static func warnOfPrewarming(_ settings: Settings, _ runtimes: RuntimeCatalog, _ log: Logger) {
        let known = runtimes.all.filter { $0.prewarm != nil }.map(\.name).sorted()
        for name in settings.pools.prewarmByRuntime.keys.sorted() where !known.contains(name) {
            let near = Spelling.nearest(name, among: known).map { "; did you mean '\($0)'?" } ?? ""
            log.warning(
                "pools.prewarm: no runtime '\(name)' can be started ahead, but \(known.joined(separator: ", "))\(near)"
            )
        }
    }

    private func watchSettings(_ machine: Machine, _ store: CodeStore, _ runtimes: RuntimeCatalog) {
        let (pool, catalog, launcher, egress, tree, log) = (pool, catalog, launcher, egress, tree, log)
        let (daemonLog, tracer, environment) = (daemonLog, tracer, environment)
        settings.onChange { loaded, changes in
            if changes.contains(where: { $0.path == "pools.prewarm" }) {
                Self.warnOfPrewarming(loaded.settings, runtimes, log)
            }
            daemonLog.set(level: loaded.settings.log.threshold, style: loaded.settings.log.style(environment))
            tracer.configure(loaded.settings.tracing)
            launcher.setReadyNamespaces(loaded.settings.pools.readyNamespaces)
            // Before the functions hear of it: what starts from here on must find it in force.
            do { try egress.apply(loaded.settings.egressPolicy) } catch { log.error("\(error)") }
            pool.setLimits(loaded.settings.poolLimits, pace: loaded.settings.poolPace)
            pool.setBudget(Self.budget(loaded.settings, machine))
            store.setLimits(loaded.settings.codeLimits)
            let host = loaded.settings.host
            do throws(CgroupError) {
                try tree.setTotals(cpu: host.cpus, pids: host.pids, swap: host.swap)
            } catch {
                log.error("the limits of all sandboxes together could not be written: \(error)")
            }
            catalog.apply(loaded.settings)
            for change in changes {
                log.info(
                    "config reload rev \(loaded.revision): \(change.path) \(change.old) -> \(change.new) \(change.isApplied ? "[applied]" : "[needs restart]")"
                )
            }
        }
    }
}
