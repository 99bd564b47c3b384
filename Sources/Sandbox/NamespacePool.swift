// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Synchronization
import Units

/// The namespaces that one sandbox takes and nobody after it: network, IPC and UTS. In the network namespace loopback is
/// up, and the Runtime API's socket listens. With them the two file systems in memory that are its own.
///
/// Making a network namespace costs half a millisecond and does not run in parallel (the kernel's RTNL lock), so they are
/// kept in stock.
struct NamespaceSet: Sendable {
    let network: Int32
    let ipc: Int32
    let uts: Int32
    let listener: Int32
    let tmp: ScratchSpace
    let control: ControlDirectory

    static let port: UInt16 = 9001

    /// Makes one, on a thread that gives up its own namespaces for it and must not be used for anything else.
    static func make() throws(SyscallError) -> NamespaceSet {
        try SyscallError.check("unshare", "network, ipc and uts namespaces", clinux_unshare(CLINUX_SET))
        try SyscallError.check("ioctl", "loopback", clinux_loopback_up())
        let listener = Descriptor(owning: try listen())
        let network = try Descriptor.open("/proc/thread-self/ns/net", O_RDONLY)
        let ipc = try Descriptor.open("/proc/thread-self/ns/ipc", O_RDONLY)
        let uts = try Descriptor.open("/proc/thread-self/ns/uts", O_RDONLY)
        let (tmp, control) = (try ScratchSpace(size: .mib(64)), try ControlDirectory())
        return NamespaceSet(
            network: network.release(),
            ipc: ipc.release(),
            uts: uts.release(),
            listener: listener.release(),
            tmp: tmp,
            control: control
        )
    }

    func close() { for fd in [network, ipc, uts, listener] { Glibc.close(fd) } }

    private static func listen() throws(SyscallError) -> CInt {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let listener = Descriptor(owning: try SyscallError.check("socket", "", socket(AF_INET, type, 0)))
        let fd = listener.raw
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(fd, $0, size) }
        }
        try SyscallError.check("bind", "127.0.0.1:\(port)", bound)
        try SyscallError.check("listen", "127.0.0.1:\(port)", Glibc.listen(fd, 64))
        return listener.release()
    }
}

/// The namespaces that sandboxes take: sets are used once, user namespaces come back. Both are made ahead, on a thread of
/// the pool's own.
final class NamespacePool: Sendable {
    /// A user namespace in which user 1000 is one host user that nobody else is.
    struct Slot: Sendable {
        let index: Int
        let namespace: Int32
        /// The user and group id on the host.
        var hostID: UInt32 { NamespacePool.firstHostID + UInt32(index) }
    }

    static let firstHostID: UInt32 = 100_000
    static let insideID: UInt32 = 1000

    private struct Stock {
        var sets: [NamespaceSet] = []
        var slots: [Slot] = []
        /// How many host users have been named, and those of them that are nobody's, as their namespace could not be made.
        var slotCount = 0
        var unused: [Int] = []
        var target: Int
        var isRefilling = false
        var isShutDown = false

        var isShort: Bool { !isShutDown && (sets.count < target || slots.count < min(target, 1)) }
    }

    private let stock: Mutex<Stock>

    /// - Parameter target: how many sets are kept ready.
    init(target: Int) {
        stock = Mutex(Stock(target: target))
        refill()
    }

    /// How many sets are kept ready from now on; what is there beyond that is used up.
    func setTarget(_ target: Int) {
        stock.withLock { $0.target = target }
        refill()
    }

    func waitUntilReady() { while stock.withLock({ $0.isShort || $0.isRefilling }) { usleep(100) } }

    /// Namespaces that nobody has used: from the stock, or made now. What is taken is made again by `refill`.
    func takeSet() throws(SyscallError) -> NamespaceSet {
        if let set = stock.withLock({ $0.sets.popLast() }) { return set }
        return try Thread.run(name: "namespaces") { () throws(SyscallError) in try NamespaceSet.make() }
    }

    func takeSlot() throws(SyscallError) -> Slot {
        if let free = stock.withLock({ $0.slots.popLast() }) { return free }
        // On a thread that lives as long as it takes: what holds the namespace meanwhile dies with its maker.
        return try makeSlot()
    }

    private func makeSlot() throws(SyscallError) -> Slot {
        let index = stock.withLock { stock in
            if let index = stock.unused.popLast() { return index }
            defer { stock.slotCount += 1 }
            return stock.slotCount
        }
        let fd = clinux_user_namespace(Self.insideID, Self.firstHostID + UInt32(index))
        guard fd >= 0 else {
            let error = SyscallError("clone", "user namespace", errno)
            stock.withLock { $0.unused.append(index) }
            throw error
        }
        return Slot(index: index, namespace: fd)
    }

    func giveBack(_ slot: Slot) {
        let isKept = stock.withLock { stock in
            if !stock.isShutDown { stock.slots.append(slot) }
            return !stock.isShutDown
        }
        if !isKept { close(slot.namespace) }
    }

    /// Lets go of everything in stock.
    func shutdown() {
        let (sets, slots) = stock.withLock { stock in
            defer {
                stock.sets = []
                stock.slots = []
                stock.isShutDown = true
            }
            return (stock.sets, stock.slots)
        }
        for set in sets { set.close() }
        for slot in slots { close(slot.namespace) }
    }

    /// Begins to make what is missing. Not beside a launch: the kernel would let that wait for the network namespace.
    func refill() {
        let isNeeded = stock.withLock { stock in
            guard !stock.isRefilling, stock.isShort else { return false }
            stock.isRefilling = true
            return true
        }
        guard isNeeded else { return }
        let refills = { @Sendable [self] in
            Thread.stepBack()
            // Whether it is short and whether somebody sees to that are told in one go, or what is taken between would be
            // missing until the next launch.
            while stock.withLock({ stock in
                if !stock.isShort { stock.isRefilling = false }
                return stock.isRefilling
            }) {
                guard (try? refillOnce()) == nil else { continue }
                return stock.withLock { $0.isRefilling = false }
            }
        }
        // Without a thread to make more of them each launch makes its own, and asks again.
        do { try Thread.start(name: "namespaces", refills) } catch { stock.withLock { $0.isRefilling = false } }
    }

    private func refillOnce() throws(SyscallError) {
        if stock.withLock({ $0.slots.isEmpty }) { giveBack(try makeSlot()) }
        guard stock.withLock({ $0.sets.count < $0.target }) else { return }
        let set = try NamespaceSet.make()
        let isKept = stock.withLock { stock in
            if !stock.isShutDown { stock.sets.append(set) }
            return !stock.isShutDown
        }
        if !isKept { set.close() }
    }
}
