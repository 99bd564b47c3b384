// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Units

/// The pages that the first request after a shrink brought back: what the next wake will need too.
///
/// "Record the working set, prefetch it next time" (REAP, ASPLOS 2021), with the kernel's own files: `/proc/PID/pagemap`
/// tells which anonymous pages are resident, `process_madvise(MADV_WILLNEED)` brings them back from swap.
package struct WorkingSet: Sendable, Equatable {
    package struct Run: Sendable, Equatable {
        package var start: UInt64
        package var length: UInt64
    }

    package struct Process: Sendable, Equatable {
        package var pid: Int32
        package var runs: [Run]
    }

    package var processes: [Process]

    package var size: Bytes {
        Bytes(Int64(processes.flatMap(\.runs).reduce(0) { $0 + $1.length }))
    }

    /// More would cost more to record than it saves.
    private static let maxRuns = 2048
    /// How many pages of address space are looked at, of all processes together: a function can map a hundred terabytes
    /// in each of a hundred processes, and hours would pass over them.
    private static let maxPages = 1 << 20
    private static let pageSize: UInt64 = 4096

    /// What is resident now of the anonymous memory of these processes, as far as that is found in what is looked at;
    /// stops when `mayGoOn` says so. Milliseconds; on a reclaimer's thread.
    package static func record(_ pids: [Int32], while mayGoOn: () -> Bool = { true }) -> WorkingSet {
        var pages = maxPages
        var processes: [Process] = []
        for pid in pids where pages > 0 && mayGoOn() {
            let runs = resident(pid, &pages)
            if !runs.isEmpty { processes.append(Process(pid: pid, runs: runs)) }
        }
        return WorkingSet(processes: processes)
    }

    private static func resident(_ pid: Int32, _ pages: inout Int) -> [Run] {
        guard let maps = try? KernelFile.read("/proc/\(pid)/maps"),
            let pagemap = try? Descriptor.open("/proc/\(pid)/pagemap", O_RDONLY)
        else { return [] }
        var runs: [Run] = []
        // Small mappings first: a large one is mostly what was reserved and never touched.
        let mappings = writable(maps).sorted { $0.1 - $0.0 < $1.1 - $1.0 }
        for (start, end) in mappings where runs.count < maxRuns && pages > 0 {
            append(&runs, pagemap, start, end, &pages)
        }
        return runs
    }

    /// Private writable mappings: `7f00-7f10 rw-p …`.
    static func writable(_ maps: String) -> [(UInt64, UInt64)] {
        maps.split(separator: "\n")
            .compactMap { line in
                let words = line.split(separator: " ", maxSplits: 2)
                guard words.count > 1, words[1].hasPrefix("rw"), words[1].hasSuffix("p") else { return nil }
                let ends = words[0].split(separator: "-")
                guard ends.count == 2, let start = UInt64(ends[0], radix: 16), let end = UInt64(ends[1], radix: 16)
                else {
                    return nil
                }
                return (start, end)
            }
    }

    /// Eight bytes a page: bit 63 is "present", bit 61 "file page or shared".
    private static func append(
        _ runs: inout [Run],
        _ pagemap: borrowing Descriptor,
        _ start: UInt64,
        _ end: UInt64,
        _ pages: inout Int
    ) {
        let window = 4096
        var entries = [UInt64](repeating: 0, count: window)
        var page = start / pageSize
        while page < end / pageSize, runs.count < maxRuns, pages > 0 {
            let wanted = min(window, Int(end / pageSize - page), pages)
            let fd = pagemap.raw
            let count = unsafe entries.withUnsafeMutableBytes {
                unsafe pread(fd, $0.baseAddress, wanted * 8, Int(page) * 8)
            }
            guard count > 0 else { return }
            for index in 0..<(count / 8) where entries[index] >> 63 == 1 && entries[index] >> 61 & 1 == 0 {
                let address = (page + UInt64(index)) * pageSize
                if let last = runs.last, last.start + last.length == address {
                    runs[runs.count - 1].length += pageSize
                } else {
                    runs.append(Run(start: address, length: pageSize))
                }
            }
            page += UInt64(count / 8)
            pages -= count / 8
        }
    }

    /// Brings the pages back, of processes that still live; stops when `mayGoOn` says so. Blocking.
    package func prefetch(while mayGoOn: () -> Bool) {
        for process in processes {
            for batch in stride(from: 0, to: process.runs.count, by: 256) {
                guard mayGoOn() else { return }
                let runs = process.runs[batch..<min(batch + 256, process.runs.count)]
                let starts = runs.map(\.start)
                let lengths = runs.map(\.length)
                _ = unsafe clinux_will_need(process.pid, starts, lengths, starts.count)
            }
        }
    }
}
