// SPDX-License-Identifier: Apache-2.0

/// Columns fitted to a width: those that do not fit are left out, the bar takes what remains.
struct TopLayout<Row> {
    private let columns: [TopColumn<Row>]
    private let widths: [Int]
    private let sorting: TopState.Sorting
    private let scale: Int64
    private let glyphs: Glyphs

    private static var gap: Int { 2 }
    private static var bar: ClosedRange<Int> { 8...48 }

    init(_ all: [TopColumn<Row>], _ rows: [Row], sorting: TopState.Sorting, width: Int, glyphs: Glyphs) {
        func wanted(_ column: TopColumn<Row>) -> Int {
            guard column.gauge == nil else { return Self.bar.lowerBound }
            let title = column.title.count + (column.title == sorting.title ? 1 : 0)
            return max(title, rows.map { column.cell($0).width }.max() ?? 0)
        }
        var fitted = all.map { (column: $0, width: wanted($0)) }
        func spare() -> Int { width - fitted.reduce(0) { $0 + $1.width } - Self.gap * (fitted.count - 1) }
        while spare() < 0, let last = fitted.indices.max(by: { fitted[$0].column.rank < fitted[$1].column.rank }),
            fitted[last].column.rank > 0
        {
            fitted.remove(at: last)
        }
        if let index = fitted.firstIndex(where: { $0.column.gauge != nil }) {
            fitted[index].width = min(Self.bar.upperBound, fitted[index].width + max(0, spare()))
        }
        (columns, widths) = (fitted.map(\.column), fitted.map(\.width))
        // One scale for all bars: what one sandbox gave and another got can be seen in their lengths.
        scale = all.compactMap(\.gauge).flatMap { gauge in rows.map { gauge($0).extent } }.max() ?? 0
        (self.sorting, self.glyphs) = (sorting, glyphs)
    }

    var head: StyledLine {
        line { column in
            guard column.title == sorting.title else { return StyledLine(column.title) }
            return StyledLine(column.title + (column.isNumber != sorting.isReversed ? glyphs.down : glyphs.up))
        }
        .styled(.inverse)
    }

    func line(_ row: Row) -> StyledLine {
        line { column in
            guard let gauge = column.gauge, let index = columns.firstIndex(where: { $0.gauge != nil }) else {
                return column.cell(row)
            }
            return gauge(row).line(width: widths[index], scale: scale, glyphs: glyphs)
        }
    }

    private func line(_ cell: (TopColumn<Row>) -> StyledLine) -> StyledLine {
        zip(columns, widths)
            .map { column, width in cell(column).padded(to: width, right: column.isNumber) }
            .enumerated()
            .reduce(StyledLine("")) { $1.offset == 0 ? $1.element : $0 + .spaces(Self.gap) + $1.element }
    }
}
