// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc

struct Initialise: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make a new function directory from a template.",
        discussion: "fn init hello --runtime python"
    )
    @Argument(help: "The function's name, and the directory to make.") var name: String
    @Option(help: "The runtime, such as python.", completion: .runtimes) var runtime: String

    func run() throws {
        // Lambda's rule for names; the directory has the function's.
        guard !name.isEmpty, name.count <= 64,
            name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber) || "-_".contains($0) })
        else {
            throw Failure(.usage, "fn: '\(name)' is no function name: expected 1 to 64 of A-Z, a-z, 0-9, - and _")
        }
        let template = "\(try Siblings.runtimes())/\(runtime)/template"
        guard Siblings.isDirectory(template) else {
            throw Failure(
                .notFound,
                "fn: no template for runtime '\(runtime)'; there are: \(Siblings.templates.joined(separator: ", "))"
            )
        }
        guard unsafe mkdir(name, 0o755) == 0 else {
            throw Failure(.failed, "fn: \(name): \(unsafe String(cString: strerror(errno)))")
        }
        for file in try Siblings.names(template) { try copy("\(template)/\(file)", to: "\(name)/\(file)") }
        Console.error("Made \(name)/. Try: fn deploy \(name) && fn invoke \(name)")
        Console.print(name)
    }

    private func copy(_ source: String, to target: String) throws {
        let text = String(decoding: try Console.readFile(source), as: UTF8.self)
        let filled = text.split(separator: "{{name}}", omittingEmptySubsequences: false).joined(separator: name)
        var info = stat()
        unsafe stat(source, &info)
        let fd = unsafe open(target, O_CREAT | O_EXCL | O_WRONLY, info.st_mode & 0o777)
        guard fd >= 0 else { throw Failure(.failed, "fn: \(target): \(unsafe String(cString: strerror(errno)))") }
        Console.write(Array(filled.utf8), to: fd)
        close(fd)
    }
}

/// What was installed or built together with this program.
enum Siblings {
    static var directory: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path = String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }

    /// The directory of runtimes: named, beside the program, in the checkout it was built in, or installed.
    static func runtimes() throws -> String {
        if let named = Console.environment("FN_RUNTIMES") { return named }
        var place = directory
        while let slash = place.lastIndex(of: "/") {
            if isDirectory("\(place)/Runtimes/images") { return "\(place)/Runtimes" }
            place = String(place[..<slash])
        }
        // PREFIX/bin/fn has PREFIX/share/fn/runtimes.
        let installed = directory.hasSuffix("/bin") ? "\(directory.dropLast(4))/share/fn/runtimes" : ""
        guard let found = [installed, "/usr/share/fn/runtimes"].first(where: isDirectory) else {
            throw Failure(.notFound, "fn: no runtimes found; set FN_RUNTIMES")
        }
        return found
    }

    /// Runtimes that have a template.
    static var templates: [String] {
        let root = (try? runtimes()) ?? ""
        return ((try? names(root)) ?? []).filter { isDirectory("\(root)/\($0)/template") }
    }

    /// The daemon's program.
    static var daemon: String { unsafe access("\(directory)/fnd", X_OK) == 0 ? "\(directory)/fnd" : "fnd" }

    static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    static func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return unsafe stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }

    static func names(_ path: String) throws -> [String] {
        guard let stream = unsafe opendir(path) else {
            throw Failure(.notFound, "fn: \(path): \(unsafe String(cString: strerror(errno)))")
        }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Becomes `fnd` with these arguments: what needs no running daemon is done by its program.
    static func become(_ arguments: [String]) throws -> Never {
        let all = [daemon] + arguments
        var pointers = unsafe all.map { unsafe strdup($0) }
        unsafe pointers.append(nil)
        unsafe execvp(daemon, pointers)
        throw Failure(.failed, "fn: \(daemon) cannot be run: \(unsafe String(cString: strerror(errno)))")
    }
}
