// SPDX-License-Identifier: Apache-2.0

/// What bars are drawn with: block characters, or ASCII where the terminal's character set is not UTF-8.
struct Glyphs: Equatable {
    /// The last is a whole cell, the ones before it parts of one in equal steps.
    var fill: [String]
    var room: String
    var mark: String
    var down: String
    var up: String

    static let unicode = Glyphs(
        fill: ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
        room: "·",
        mark: "│",
        down: "▼",
        up: "▲"
    )
    static let ascii = Glyphs(fill: ["#"], room: ".", mark: "|", down: "v", up: "^")
}

/// A bar: filled up to what is used, dotted up to what may be used, with a mark at the soft limit.
struct Gauge: Equatable {
    /// Bytes, as all three.
    var used: Int64
    var soft: Int64?
    var hard: Int64?

    /// The end of the longest of the three.
    var extent: Int64 { max(used, hard ?? 0) }

    /// - Parameter scale: what `width` cells stand for, in bytes.
    func line(width: Int, scale: Int64, glyphs: Glyphs) -> StyledLine {
        guard width > 0, scale > 0 else { return StyledLine("") }
        func cells(_ bytes: Int64) -> Double { min(1, max(0, Double(bytes) / Double(scale))) * Double(width) }
        let steps = glyphs.fill.count
        // Something in use is never drawn as nothing.
        let parts = max(used > 0 ? 1 : 0, Int((cells(used) * Double(steps)).rounded()))
        let (whole, rest) = parts.quotientAndRemainder(dividingBy: steps)
        let filled =
            String(repeating: glyphs.fill[steps - 1], count: whole) + (rest > 0 ? glyphs.fill[rest - 1] : "")
        let mark = soft.map { min(width - 1, Int(cells($0))) }
        let end = max(filled.count, Int(cells(hard ?? 0).rounded(.up)))
        let room = (filled.count..<max(width, filled.count))
            .map { $0 == mark ? glyphs.mark : $0 < end ? glyphs.room : " " }
        return StyledLine(filled, style) + StyledLine(room.joined(), .dim)
    }

    private var style: StyledLine.Style {
        guard let hard, hard > 0 else { return .green }
        return used * 10 >= hard * 9 ? .red : used * 4 >= hard * 3 ? .yellow : .green
    }
}
