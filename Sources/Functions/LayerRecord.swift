// SPDX-License-Identifier: Apache-2.0

/// One version of a layer, as a function names it. It stays usable when the layer is deleted, as Lambda has it.
package struct FunctionLayer: Codable, Sendable, Equatable {
    package var arn: String
    package var sha256: String
    package var codeSize: Int64

    package init(arn: String, sha256: String, codeSize: Int64) {
        self.arn = arn
        self.sha256 = sha256
        self.codeSize = codeSize
    }
}

/// A version of a layer, as it was published.
package struct LayerRecord: Codable, Sendable, Equatable {
    package var name: String
    /// From 1; set when it is published.
    package var version = 0
    package var description: String?
    package var license: String?
    package var runtimes: [String]?
    package var architectures: [String]?
    package var sha256: String
    package var size: Int64
    package var createdMs: Int64 = 0

    package init(name: String, code: CodeBundle) {
        self.name = name
        sha256 = code.sha256
        size = code.archiveSize
    }

    package var sha256Base64: String { CodeBundle.base64(hex: sha256) }
}
