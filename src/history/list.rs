//! The columns of a list's file, as a rules file's `file = "..."` and `saker lists` have them.

use super::rows::{BadCell, Cells, Column, Row, columns};
use crate::{
    limits::{LIST_VALUE_BYTES_MAX, TEXT_BYTES_MAX},
    types::{lists::ListEntry, time::Timestamp},
};

columns! {
    VALUE "value" true,
    EXPIRES_AT "expires_at" false,
    SOURCE "source" false,
}

impl Row for ListEntry {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn read(cells: &Cells<'_>) -> Result<ListEntry, BadCell> {
        let bounded = |most: usize| {
            move |text: &str| match text.len() > most || text.contains(char::is_control) {
                true => Err(format!("must have at most {most} bytes and no control characters")),
                false => Ok(text.into()),
            }
        };
        let end = |text: &str| {
            Timestamp::parse_end(text).ok_or(format!("`{text}` is no time such as 2027-01-31T00:00:00Z"))
        };
        Ok(ListEntry {
            // A blank beside a value is a slip of whoever typed it, and no id that a switch sends would equal it.
            value: cells.need(VALUE, |text| match text.trim() {
                "" => Err("is empty".to_owned()),
                value => bounded(LIST_VALUE_BYTES_MAX)(value),
            })?,
            expires_at: cells.get(EXPIRES_AT, end)?,
            source: cells.get(SOURCE, bounded(TEXT_BYTES_MAX))?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Rows, *};

    #[test]
    fn a_value_that_ends_on_a_day_is_on_the_list_all_of_that_day() {
        let text = "value,expires_at\nM-1,2026-03-01\nM-2,2026-03-02T00:00:00Z\n";
        let rows = Rows::<ListEntry>::new("list.csv".to_owned(), text.as_bytes(), 0).unwrap();
        let ends: Vec<_> = rows.map(|row| row.unwrap().expires_at.unwrap().to_string()).collect();
        assert_eq!(ends, ["2026-03-02T00:00:00Z"; 2]);
    }

    #[test]
    fn a_blank_beside_a_value_does_not_keep_it_off_the_list() {
        let read = |text: &'static str| {
            let rows = Rows::<ListEntry>::new("list.csv".to_owned(), text.as_bytes(), 0).unwrap();
            rows.map(|row| row.map(|entry| entry.value.to_string())).collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(read("value\n M-34 \nM-1\n").unwrap(), ["M-34", "M-1"]);
        assert_eq!(
            read("value\n   \n").unwrap_err().to_string(),
            "list.csv, line 2, column `value`: is empty"
        );
    }
}
