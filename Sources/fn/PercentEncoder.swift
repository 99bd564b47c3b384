// SPDX-License-Identifier: Apache-2.0

/// Makes a name safe for a URL's path.
enum PercentEncoder {
    static func encode(_ text: String) -> String {
        text.utf8
            .map { byte in
                let character = Character(UnicodeScalar(byte))
                let isPlain =
                    character.isASCII && (character.isLetter || character.isNumber) || "-_.~".contains(character)
                let hex = String(byte, radix: 16, uppercase: true)
                return isPlain ? String(character) : "%" + (byte < 16 ? "0" : "") + hex
            }
            .joined()
    }
}
