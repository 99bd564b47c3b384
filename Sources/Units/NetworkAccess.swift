// SPDX-License-Identifier: Apache-2.0

/// What a function may reach beside the Runtime API, from least to most.
package enum NetworkAccess: String, Sendable, Codable, CaseIterable, Comparable {
    /// Nothing.
    case none
    /// The public internet over IPv4; no private, link-local or other reserved address, and nobody reaches it.
    case egress

    package static func < (a: NetworkAccess, b: NetworkAccess) -> Bool { a == .none && b == .egress }
}
