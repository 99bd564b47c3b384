// SPDX-License-Identifier: Apache-2.0
import Cgroup
import Functions
import Glibc
import Linux
import Logging
import Units

/// Brings what all functions of a runtime need into the page cache, charged to the `images` group.
///
/// The kernel charges a page to whoever touches it first: else the first sandbox of each runtime would pay for the
/// interpreter, be shrunk with it, and leave the next ones to ride for free. Charges follow the process, so a process
/// of its own does the reading, inside the group.
package enum ImagePreload {
    /// The first word of the command line that makes `fnd` do the reading.
    package static let verb = "preload-images"

    /// What the reading process does: enters the group, reads every file to its end.
    ///
    /// - Parameter arguments: the group's `cgroup.procs`, then the files.
    package static func run(_ arguments: [String]) -> Int32 {
        guard let group = arguments.first, (try? KernelFile.write(group, "0")) != nil else { return 1 }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        for file in arguments.dropFirst() {
            let fd = unsafe open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard fd >= 0 else { continue }
            // What is cached already is charged to whoever read it first, often the group of a daemon that is gone:
            // only a page that comes anew is charged here. Pages that somebody maps stay where they are.
            _ = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)
            while unsafe read(fd, &buffer, buffer.count) > 0 {}
            close(fd)
        }
        return 0
    }

    /// Starts that process, waits for it, and protects what it has read. Blocking.
    static func perform(_ runtimes: RuntimeCatalog, images: String, group: Cgroup, log: Logger) {
        var files: [String] = []
        for runtime in runtimes.all {
            for pattern in runtime.preload where !pattern.contains("..") {
                files += Directory.matching("\(images)/\(runtime.image)/\(pattern)").filter { !files.contains($0) }
            }
        }
        guard group.controllers.contains(.memory), !files.isEmpty else { return }
        guard spawn(["\(group.path)/cgroup.procs"] + files) == 0 else {
            return log.warning("the runtimes' files could not be read ahead: the first sandbox of each pays for them")
        }
        let size = group.memoryCurrent() ?? .zero
        try? group.setMemoryLow(size)
        log.info("\(files.count) files of the runtimes are kept in memory: \(size.rounded)")
    }

    private static func spawn(_ arguments: [String]) -> Int32 {
        let words = ["/proc/self/exe", verb] + arguments
        var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
        defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
        var pid: pid_t = 0
        guard unsafe posix_spawn(&pid, "/proc/self/exe", nil, nil, &pointers, nil) == 0 else { return -1 }
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}
