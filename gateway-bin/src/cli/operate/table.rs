use std::fmt;

/// Rows of plain text in columns, the first one being their names.
#[derive(Debug)]
pub(in crate::cli) struct Table<const N: usize>(Vec<[String; N]>);

// === impl Table ===

impl<const N: usize> Table<N> {
    pub(in crate::cli) fn new(names: [&str; N]) -> Self {
        Self(vec![names.map(str::to_owned)])
    }

    /// Adds a row. Characters that would move the cursor of a terminal are shown as escapes: a user id is whatever an
    /// issuer says.
    pub(in crate::cli) fn row(&mut self, cells: [String; N]) {
        self.0.push(cells.map(|cell| printable(&cell)));
    }
}

/// A text without control characters.
pub(in crate::cli) fn printable(text: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.0 {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.0 {
            let cells = row.iter().zip(widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}  "))
                .collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["USER", "PLAN"]);
        table.row(["jürgen".to_owned(), "pro".to_owned()]);
        table.row(["a\x1b[2J\n".to_owned(), "-".to_owned()]);
        assert_eq!(
            table.to_string(),
            "USER          PLAN\njürgen        pro\na\\u{1b}[2J\\n  -\n"
        );
    }
}
