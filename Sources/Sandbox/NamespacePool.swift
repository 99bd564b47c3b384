// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Synchronization

/// A network namespace for one sandbox: loopback is up, and the Runtime API's socket listens inside.
///
/// Making one costs half a millisecond and does not run in parallel (the kernel's RTNL lock), so they are kept in stock.
struct NetworkItem: ~Copyable, Sendable {
    let namespace: Descriptor
    let listener: Descriptor

    static let port: UInt16 = 9001

    static func make() throws(SyscallError) -> (namespace: Int32, listener: Int32) {
        try Thread.run(name: "netns") { () throws(SyscallError) -> (namespace: Int32, listener: Int32) in
            try SyscallError.check("unshare", "network namespace", clinux_unshare(CLINUX_NETWORK))
            try SyscallError.check("ioctl", "loopback", clinux_loopback_up())
            let listener = Descriptor(owning: try listen())
            let namespace = try Descriptor.open("/proc/thread-self/ns/net", O_RDONLY)
            return (namespace.release(), listener.release())
        }
    }

    private static func listen() throws(SyscallError) -> CInt {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let fd = try SyscallError.check("socket", "", socket(AF_INET, type, 0))
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
        return fd
    }
}

/// The namespaces that sandboxes take: network, IPC and UTS are used once; user namespaces come back.
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
        var networks: [(namespace: Int32, listener: Int32)] = []
        var slots: [Slot] = []
        var slotCount = 0
        var isRefilling = false
        var isShutDown = false
    }

    private let stock = Mutex(Stock())
    private let target: Int

    /// - Parameter target: how many network namespaces are kept ready.
    init(target: Int) {
        self.target = target
        refill()
    }

    /// A network namespace nobody has used: from the stock, or made now.
    func takeNetwork() throws(SyscallError) -> (namespace: Int32, listener: Int32) {
        defer { refill() }
        if let item = stock.withLock({ $0.networks.popLast() }) { return item }
        return try NetworkItem.make()
    }

    /// IPC and UTS namespaces with a host name; made on demand, they cost microseconds.
    func makeIdentity(hostName: String) throws(SyscallError) -> (ipc: Int32, uts: Int32) {
        try Thread.run(name: "ipc-uts") { () throws(SyscallError) -> (ipc: Int32, uts: Int32) in
            try SyscallError.check("unshare", "ipc and uts namespaces", clinux_unshare(CLINUX_IPC_AND_UTS))
            let name = String(hostName.prefix(63))
            try SyscallError.check("sethostname", name, unsafe sethostname(name, name.utf8.count))
            let ipc = try Descriptor.open("/proc/thread-self/ns/ipc", O_RDONLY)
            let uts = try Descriptor.open("/proc/thread-self/ns/uts", O_RDONLY)
            return (ipc.release(), uts.release())
        }
    }

    func takeSlot() throws(SyscallError) -> Slot {
        let (free, index) = stock.withLock { stock -> (Slot?, Int) in
            if let slot = stock.slots.popLast() { return (slot, 0) }
            stock.slotCount += 1
            return (nil, stock.slotCount - 1)
        }
        if let free { return free }
        let hostID = Self.firstHostID + UInt32(index)
        let fd = clinux_user_namespace(Self.insideID, hostID)
        return Slot(index: index, namespace: try SyscallError.check("clone", "user namespace", fd))
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
        let (networks, slots) = stock.withLock { stock in
            defer {
                stock.networks = []
                stock.slots = []
                stock.isShutDown = true
            }
            return (stock.networks, stock.slots)
        }
        for item in networks {
            close(item.namespace)
            close(item.listener)
        }
        for slot in slots { close(slot.namespace) }
    }

    private func refill() {
        let isNeeded = stock.withLock { stock in
            guard !stock.isRefilling, !stock.isShutDown, stock.networks.count < target else { return false }
            stock.isRefilling = true
            return true
        }
        guard isNeeded else { return }
        let refills = { @Sendable [self] in
            while let item = try? NetworkItem.make() {
                let goesOn = stock.withLock { stock in
                    guard !stock.isShutDown else { return false }
                    stock.networks.append(item)
                    return stock.networks.count < target
                }
                if !goesOn { break }
            }
            stock.withLock { $0.isRefilling = false }
        }
        // Without a thread to make more of them each launch makes its own, and asks again.
        do { try Thread.start(name: "netns-refill", refills) } catch { stock.withLock { $0.isRefilling = false } }
    }
}
