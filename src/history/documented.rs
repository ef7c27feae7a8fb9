//! For tests: what `COLUMNS.md` says that a file's columns are.

/// The names in the first column of the table under the heading that begins so, in their order.
pub(crate) fn documented(heading: &str) -> Vec<&'static str> {
    let (_, section) = include_str!("COLUMNS.md")
        .split_once(&format!("\n## {heading}"))
        .unwrap_or_else(|| panic!("COLUMNS.md has no heading that begins with {heading}"));
    let section = section.split("\n## ").next().unwrap_or(section);
    let cells =
        section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}
