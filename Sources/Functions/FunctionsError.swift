// SPDX-License-Identifier: Apache-2.0
import Units

/// What can be wrong with what is deployed, or with where it is kept.
package enum FunctionsError: Error, Sendable, Equatable, CustomStringConvertible {
    case alreadyExists(String)
    case notFound(String)
    case aliasExists(function: String, name: String)
    case aliasNotFound(function: String, name: String)
    /// What is asked for does not go with what is there.
    case conflict(String)
    /// Somebody else changes the function at this moment.
    case busy(String)
    /// Somebody else changed the function since the caller looked at it.
    case revisionMismatch(name: String)
    /// A value that the caller sent, and what would be right.
    case invalid(String)
    case archiveTooLarge(limit: Bytes)
    case unpackedTooLarge(limit: Bytes)
    /// Code and layers are each small enough, and together they are not.
    case combinedTooLarge(limit: Bytes, actual: Bytes)
    case archiveUnreadable(String)
    /// An entry that would leave the function's directory, or is no file, directory or harmless link.
    case archiveHostile(entry: String, reason: String)
    /// What was accepted for later and what is kept of it take all the room there may be.
    case queueFull(limit: Bytes)
    /// A container image that is not as one has to be, or not for this host.
    case imageRefused(String)
    case imageTooLarge(limit: Bytes)
    case unpackedImageTooLarge(limit: Bytes)
    case storage(String)
    /// Nothing more can be written; running calls go on, and it is over when there is room again.
    case diskFull(path: String)
    /// What was written did not reach the disk; it is over when the disk works again.
    case diskFailed(path: String, why: String)
    /// A database that SQLite cannot make sense of.
    case damaged(path: String, why: String)

    package var description: String {
        switch self {
        case .alreadyExists(let name): "Function already exist: \(name)"
        case .notFound(let name): "no such function: \(name)"
        case .aliasExists(let function, let name): "function \(function) has an alias \(name) already"
        case .aliasNotFound(let function, let name): "function \(function) has no alias \(name)"
        case .conflict(let what): what
        case .busy(let name): "function \(name) is being changed by another request"
        case .revisionMismatch(let name): "function \(name) was changed meanwhile: its RevisionId is another one now"
        case .invalid(let what): what
        case .archiveTooLarge(let limit): "the archive is larger than \(limit) (limits.code in fn.yaml)"
        case .unpackedTooLarge(let limit):
            "Unzipped size must be smaller than \(limit.count) bytes (limits.unpacked_code in fn.yaml)"
        case .combinedTooLarge(let limit, let actual):
            "Function code combined with layers exceeds the maximum allowed size of \(limit.count) bytes. "
                + "The actual size is \(actual.count) bytes. (limits.unpacked_code in fn.yaml)"
        case .archiveUnreadable(let why):
            "Could not unzip uploaded file. Please check your file, then try to upload again. (\(why))"
        case .archiveHostile(let entry, let reason): "the archive is refused: entry '\(entry)' \(reason)"
        case .queueFull(let limit):
            "the queue holds \(limit), as much as it may (limits.queue in fn.yaml): try later, or `fn queue purge`"
        case .imageRefused(let why): "the image is refused: \(why)"
        case .imageTooLarge(let limit): "the image is larger than \(limit) (limits.image in fn.yaml)"
        case .unpackedImageTooLarge(let limit):
            "the image is refused: unpacked it is larger than \(limit) (limits.unpacked_image in fn.yaml)"
        case .diskFull(let path):
            "the disk that holds \(path) is full: nothing was accepted or changed; make room there and try again"
        case .diskFailed(let path, let why):
            "the disk that holds \(path) fails (\(why)): this is refused, what was accepted before is kept; see the "
                + "kernel's log, and try again when the disk works"
        case .damaged(let path, let why):
            "\(path) is damaged (\(why)): put back a copy of it, or move \(path), \(path)-wal and \(path)-shm away "
                + "to start without what it held"
        case .storage(let what): "what is on disk could not be read or written: \(what)"
        }
    }
}

extension FunctionsError {
    /// An entry of an image that cannot be taken.
    static func layerHostile(entry: String, _ reason: String) -> FunctionsError {
        .imageRefused("entry '\(entry)' \(reason)")
    }
}
