// SPDX-License-Identifier: Apache-2.0
import CArchive
import Crypto
import Glibc
import Units

/// One entry of a tar archive, as it says of itself: nothing of this is checked.
struct TarEntry {
    enum Kind {
        case file
        case directory
        case symbolicLink([CChar])
        case hardLink([CChar])
        case other
    }

    /// Ends with a NUL.
    var name: [CChar]
    var kind: Kind
    var isExecutable: Bool
    var size: Int64
    var modified: timespec
}

/// Reads a tar archive, packed or not, from a file; what comes out of the packing is counted and digested on the way.
///
/// Two readers of libarchive: one unpacks, the other takes the archive apart.
@safe final class TarReader {
    // SAFETY: all three are made in init and freed in deinit, and the callback runs only inside calls made here.
    private let unpacker: OpaquePointer
    private let archive: OpaquePointer
    private let buffer: UnsafeMutableRawPointer
    private static let bufferSize = 128 << 10

    private let limit: Bytes
    private let tooLarge: FunctionsError
    private var digest = SHA256()
    private(set) var count: Int64 = 0
    private var hasEnded = false
    /// What is still to come of the current entry's content.
    private var left: Int64 = 0
    /// Whether that is a hole.
    private var isHole = false
    private var isTooLarge = false

    /// - Parameters:
    ///   - limit: what may come out of the packing.
    ///   - tooLarge: what is said of more.
    init(_ path: String, _ packing: LayerPacking, limit: Bytes, tooLarge: FunctionsError) throws(FunctionsError) {
        guard let unpacker = unsafe archive_read_new(), let archive = unsafe archive_read_new() else {
            throw .storage("no memory to read \(path)")
        }
        unsafe (self.unpacker, self.archive) = unsafe (unpacker, archive)
        unsafe buffer = .allocate(byteCount: Self.bufferSize, alignment: 16)
        (self.limit, self.tooLarge) = (limit, tooLarge)
        if packing == .gzip || packing == .any { unsafe archive_read_support_filter_gzip(unpacker) }
        if packing == .zstd || packing == .any { unsafe archive_read_support_filter_zstd(unpacker) }
        unsafe archive_read_support_format_raw(unpacker)
        unsafe archive_read_support_format_empty(unpacker)
        unsafe archive_read_support_format_tar(archive)
        guard unsafe archive_read_open_filename(unpacker, path, Self.bufferSize) == ARCHIVE_OK else {
            throw unsafe problem(unpacker)
        }
        var entry: OpaquePointer?
        let first = unsafe archive_read_next_header(unpacker, &entry)
        guard first == ARCHIVE_OK || first == ARCHIVE_EOF else { throw unsafe problem(unpacker) }
        hasEnded = first == ARCHIVE_EOF
        let me = unsafe Unmanaged.passUnretained(self).toOpaque()
        let opened = unsafe archive_read_open(
            archive,
            me,
            nil,
            { _, me, place in
                guard let me = unsafe me, let place = unsafe place else { return -1 }
                return unsafe Unmanaged<TarReader>.fromOpaque(me).takeUnretainedValue().fill(place)
            },
            nil
        )
        guard opened == ARCHIVE_OK else { throw unsafe problem(archive) }
    }

    deinit {
        unsafe archive_read_free(archive)
        unsafe archive_read_free(unpacker)
        unsafe buffer.deallocate()
    }

    private func fill(_ place: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
        let got = pull()
        unsafe place.pointee = unsafe UnsafeRawPointer(buffer)
        return got
    }

    /// The next block out of the packing; 0 at the end, negative when that cannot be unpacked.
    private func pull() -> Int {
        guard !hasEnded else { return 0 }
        let got = unsafe archive_read_data(unpacker, buffer, Self.bufferSize)
        if got == 0 { hasEnded = true }
        guard got > 0 else { return got }
        count += Int64(got)
        guard count <= limit.count else {
            isTooLarge = true
            return -1
        }
        unsafe digest.update(bufferPointer: UnsafeRawBufferPointer(start: buffer, count: got))
        return got
    }

    private func problem(_ reader: OpaquePointer) -> FunctionsError {
        if isTooLarge { return tooLarge }
        let texts = unsafe [reader, unpacker].compactMap { unsafe archive_error_string($0) }
        return .imageRefused(
            "an archive in it cannot be read: \(unsafe texts.first.map { unsafe String(cString: $0) } ?? "it is damaged")"
        )
    }

    /// The next entry; `nil` at the end.
    func next() throws(FunctionsError) -> TarEntry? {
        var entry: OpaquePointer?
        let result = unsafe archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF { return nil }
        guard result >= ARCHIVE_WARN, let entry = unsafe entry else { throw unsafe problem(archive) }
        guard let name = unsafe Self.text(archive_entry_pathname(entry)) else {
            throw .imageRefused("an entry of a layer has no name, or one that is no UTF-8")
        }
        (left, isHole) = (unsafe archive_entry_size(entry), false)
        return TarEntry(
            name: name,
            kind: unsafe Self.kind(entry),
            isExecutable: unsafe archive_entry_perm(entry) & 0o111 != 0,
            size: left,
            modified: timespec(
                tv_sec: unsafe archive_entry_mtime(entry),
                tv_nsec: unsafe archive_entry_mtime_nsec(entry)
            )
        )
    }

    private static func kind(_ entry: OpaquePointer) -> TarEntry.Kind {
        if let target = unsafe text(archive_entry_hardlink(entry)) { return .hardLink(target) }
        return switch unsafe archive_entry_filetype(entry) {
        case S_IFREG: .file
        case S_IFDIR: .directory
        case S_IFLNK: .symbolicLink(unsafe text(archive_entry_symlink(entry)) ?? [0])
        default: .other
        }
    }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> [CChar]? {
        guard let pointer = unsafe pointer else { return nil }
        return unsafe Array(UnsafeBufferPointer(start: pointer, count: strlen(pointer) + 1))
    }

    /// More of the current entry's content, its holes filled with zeros; 0 at its end.
    func read(into block: inout [UInt8]) throws(FunctionsError) -> Int {
        var got = 0
        if !isHole {
            got = unsafe block.withUnsafeMutableBytes { unsafe archive_read_data(archive, $0.baseAddress, $0.count) }
            guard got >= 0 else { throw unsafe problem(archive) }
            // libarchive fills the holes before a piece of content, and ends at the one behind the last. Asked again it
            // would go on.
            isHole = got == 0
        }
        if isHole {
            got = Int(min(max(0, left), Int64(block.count)))
            for place in 0..<got { block[place] = 0 }
        }
        left -= Int64(got)
        return got
    }

    /// Reads what follows the archive's end, and returns the digest of all that came out of the packing.
    func finish() throws(FunctionsError) -> String {
        while true {
            let got = pull()
            guard got >= 0 else { throw unsafe problem(unpacker) }
            guard got > 0 else { return Hex.encode(digest.finalize()) }
        }
    }

    /// How much of the file has been taken.
    var consumed: Int64 { unsafe archive_filter_bytes(unpacker, -1) }

    /// Runs `body` on this thread with names read as UTF-8, which libarchive does only where the locale says so.
    static func readingUTF8<Result>(_ body: () throws(FunctionsError) -> Result) throws(FunctionsError) -> Result {
        let onlyCharacters: CInt = 1 << LC_CTYPE
        guard let locale = unsafe newlocale(onlyCharacters, "C.UTF-8", nil) else { return try body() }
        let old = unsafe uselocale(locale)
        defer {
            unsafe uselocale(old)
            unsafe freelocale(locale)
        }
        return try body()
    }
}
