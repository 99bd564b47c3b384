// SPDX-License-Identifier: Apache-2.0

/// Why a request is not let in.
package enum AccessRefusal: Error, Sendable, Equatable {
    /// It shows nothing.
    case missing
    /// It shows something in a way that cannot be read.
    case incomplete(String)
    /// It shows a kind of proof that `auth.mode` does not take.
    case unwanted(String)
    /// Nobody is known by what it shows.
    case unknown
    /// A known key, and a signature that is not its or not of now.
    case invalidSignature(String)
}
