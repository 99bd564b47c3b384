// SPDX-License-Identifier: Apache-2.0
import CLinux
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
    /// A slow disk may need minutes for all that functions of all runtimes may want.
    private static let patience = Duration.seconds(600)

    /// What the reading process does: enters the group, reads every file to its end.
    ///
    /// - Parameter arguments: the daemon's PID, the group's `cgroup.procs`, then the files.
    package static func run(_ arguments: [String]) -> Int32 {
        guard arguments.count > 1, let daemon = pid_t(arguments[0]), clinux_die_with(daemon) == 0,
            (try? KernelFile.write(arguments[1], "0")) != nil
        else { return 1 }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        for file in arguments.dropFirst(2) {
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
        let arguments = [verb, String(getpid()), "\(group.path)/cgroup.procs"] + files
        let outcome = try? Program.run("/proc/self/exe", arguments, input: "", patience: patience)
        guard outcome?.status == 0 else {
            return log.warning("the runtimes' files could not be read ahead: the first sandbox of each pays for them")
        }
        let size = group.memoryCurrent() ?? .zero
        try? group.setMemoryLow(size)
        log.info("\(files.count) files of the runtimes are kept in memory: \(size.rounded)")
    }
}
