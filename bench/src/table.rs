//! Tables in Markdown that can be read as they are, too.

use std::fmt::Write as _;

use indicatif::HumanCount;

/// A table; the first column is text, the others are numbers.
pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let title = head.get(column).map_or(0, |title| title.chars().count());
            rows.iter().map(|row| cell(row, column).chars().count()).fold(title.max(3), usize::max)
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: &dyn Fn(usize) -> String| {
        for (column, width) in widths.iter().enumerate() {
            let _ = match column {
                0 => write!(text, "| {:<width$} ", cells(column)),
                _ => write!(text, "| {:>width$} ", cells(column)),
            };
        }
        text.push_str("|\n");
    };
    line(&|column| head.get(column).map(|title| (*title).to_owned()).unwrap_or_default());
    line(&|column| {
        let dashes = widths.get(column).map_or(0, |width| width - usize::from(column > 0));
        "-".repeat(dashes) + if column > 0 { ":" } else { "" }
    });
    for row in rows {
        line(&|column| cell(row, column));
    }
    text
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["plain".to_owned(), "846,000".to_owned()], vec!["µ".to_owned(), "7".to_owned()]];
        let expected = "\
| who   | logins/s |
| ----- | -------: |
| plain |  846,000 |
| µ     |        7 |
";
        assert_eq!(render(&["who", "logins/s"], &rows), expected);
    }

    #[test]
    fn a_row_that_is_too_short_is_filled_up() {
        assert_eq!(render(&["a", "b"], &[vec!["1".to_owned()]]).lines().last(), Some("| 1   |     |"));
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
