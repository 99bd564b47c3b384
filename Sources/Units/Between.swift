// SPDX-License-Identifier: Apache-2.0

extension String {
    /// What stands between a beginning and an end; `nil` where the text has not both, or nothing between them.
    ///
    /// Compared byte by byte, as paths of HTTP are: `hasPrefix` compares characters, and each request asks several times.
    package func between(_ beginning: StaticString, _ end: StaticString) -> Substring? {
        let (first, last) = (beginning.utf8CodeUnitCount, end.utf8CodeUnitCount)
        guard utf8.count > first + last, holds(beginning, at: 0), holds(end, at: utf8.count - last) else {
            return nil
        }
        return self[utf8.index(startIndex, offsetBy: first)..<utf8.index(endIndex, offsetBy: -last)]
    }

    private func holds(_ text: StaticString, at place: Int) -> Bool {
        let own = utf8.span
        let other = unsafe text.utf8Start
        for index in 0..<text.utf8CodeUnitCount where unsafe own[place + index] != other[index] { return false }
        return true
    }
}
