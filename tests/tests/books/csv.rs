//! Tables of comma-separated values (RFC 4180).

/// The rows of a table, each with its cells.
pub(crate) fn rows(table: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut is_quoted, mut chars) = (false, table.chars().peekable());
    while let Some(char) = chars.next() {
        match (char, is_quoted) {
            ('"', true) if chars.next_if_eq(&'"').is_some() => cell.push('"'),
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => row.push(std::mem::take(&mut cell)),
            ('\r', false) => assert_eq!(chars.peek(), Some(&'\n')),
            ('\n', false) => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (char, _) => cell.push(char),
        }
    }
    assert!(cell.is_empty() && row.is_empty(), "the last line ends");
    rows
}
