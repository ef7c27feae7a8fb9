//! Reading a CSV file row by row: header, gzip, bad rows and how many of them may be passed over. What the
//! columns mean is the business of each [`Row`].

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    marker::PhantomData,
    path::Path,
};

use csv::StringRecord;

use crate::types::{
    auth::Place,
    ids::{Id, looks_like_card_number},
    lines::Lines,
    money::{Currency, Money},
};

/// One column of a kind of file.
#[derive(Clone, Copy)]
pub struct Column {
    pub(super) name: &'static str,
    /// Whether every row must fill it.
    pub(super) needed: bool,
    /// Its place among the columns of its kind of file.
    pub(super) index: usize,
}

/// Declares the columns of a kind of file as constants, and `COLUMNS` as all of them.
macro_rules! columns {
    ($($(#[$attribute:meta])* $constant:ident $name:literal $needed:literal,)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Place_ { $($constant,)* }
        $(const $constant: Column =
            Column { name: $name, needed: $needed, index: Place_::$constant as usize };)*
        const COLUMNS: &[Column] = &[$($constant,)*];
    };
}
pub(super) use columns;

/// A kind of row.
pub trait Row: Sized {
    /// Every column that is understood.
    const COLUMNS: &'static [Column];

    /// # Errors
    /// The first cell that cannot be read.
    fn read(cells: &Cells<'_>) -> Result<Self, BadCell>;
}

/// A cell that cannot be read, and why.
#[derive(Debug)]
pub struct BadCell {
    column: &'static str,
    why: String,
}

/// A row, or the header, that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRow {
    pub file: String,
    /// Of the file, as an editor counts: that on which the row begins, from 1; 0 where the file cannot be opened.
    pub line: u64,
    /// Absent where the row as a whole is wrong.
    pub column: Option<String>,
    pub why: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{}, line {}, column `{column}`: {}", self.file, self.line, self.why),
            None => write!(f, "{}, line {}: {}", self.file, self.line, self.why),
        }
    }
}

impl std::error::Error for BadRow {}

/// The rows of one file, in file order. After an error there are no more.
pub struct Rows<T> {
    file: String,
    reader: csv::Reader<Lines<Box<dyn Read>>>,
    /// Where each of [`Row::COLUMNS`] stands in the file.
    places: Vec<Option<usize>>,
    headers: Vec<String>,
    unknown_columns: Vec<String>,
    record: StringRecord,
    may_skip: u64,
    skipped: Vec<BadRow>,
    ended: bool,
    line: u64,
    row: PhantomData<T>,
}

impl<T: Row> Rows<T> {
    /// Opens a file whose first `skip_bad_rows` bad rows are passed over and listed.
    ///
    /// # Errors
    /// Where the file cannot be opened, or its header lacks a needed column or has one twice.
    pub fn open(path: &Path, skip_bad_rows: u64) -> Result<Rows<T>, BadRow> {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(input) => Rows::new(file, input, skip_bad_rows),
            Err(error) => {
                Err(BadRow { file, line: 0, column: None, why: format!("cannot be opened: {error}") })
            }
        }
    }

    /// The same for any source; `file` is its name in messages.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn new(file: String, input: impl Read + 'static, skip_bad_rows: u64) -> Result<Rows<T>, BadRow> {
        let bad_header = |line: u64, why: String| BadRow { file: file.clone(), line, column: None, why };
        let input = unpacked(input).map_err(|error| bad_header(1, error.to_string()))?;
        let mut reader = csv::ReaderBuilder::new().from_reader(Lines::new(input));
        let headers = reader.headers().map(|headers| headers.iter().map(|h| h.trim().to_owned()).collect());
        let line = reader.get_mut().of_text_behind(0);
        let bad_header = |why: String| bad_header(line, why);
        let headers: Vec<String> = headers.map_err(|error| bad_header(describe(&error).1))?;
        let mut places = vec![None; T::COLUMNS.len()];
        let mut unknown_columns = Vec::new();
        for (place, header) in headers.iter().enumerate() {
            match T::COLUMNS.iter().find(|c| c.name == header) {
                None => unknown_columns.push(header.clone()),
                Some(column) if places[column.index].is_some() => {
                    return Err(bad_header(format!("the column `{header}` is there twice")));
                }
                Some(column) => places[column.index] = Some(place),
            }
        }
        let missing: Vec<&str> =
            T::COLUMNS.iter().filter(|c| c.needed && places[c.index].is_none()).map(|c| c.name).collect();
        if !missing.is_empty() {
            return Err(bad_header(format!("the header lacks the needed column `{}`", missing.join("`, `"))));
        }
        Ok(Rows {
            file,
            reader,
            places,
            headers,
            unknown_columns,
            record: StringRecord::new(),
            may_skip: skip_bad_rows,
            skipped: Vec::new(),
            ended: false,
            line,
            row: PhantomData,
        })
    }

    /// One sentence on the columns that are not understood, if there are any.
    pub fn warning(&self) -> Option<String> {
        let columns = self.unknown_columns.join("`, `");
        (!columns.is_empty())
            .then(|| format!("{}: not understood and left aside: column `{columns}`", self.file))
    }

    /// What is wrong with the row read last beyond what it says by itself.
    pub(super) fn blame(&self, column: &str, why: String) -> BadRow {
        BadRow { file: self.file.clone(), line: self.line, column: Some(column.to_owned()), why }
    }

    /// The line on which the row read last begins, or the header before there is one.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The bad rows passed over so far.
    pub fn skipped(&self) -> &[BadRow] {
        &self.skipped
    }

    fn read_one(&mut self) -> Option<Result<T, BadRow>> {
        let behind = self.reader.position().byte();
        let read = self.reader.read_record(&mut self.record);
        self.line = self.reader.get_mut().of_text_behind(behind);
        let (column, why) = match read {
            Ok(false) => return None,
            Ok(true) => match T::read(&Cells { record: &self.record, places: &self.places }) {
                Ok(row) => return Some(Ok(row)),
                Err(cell) => (Some(cell.column.to_owned()), cell.why),
            },
            Err(error) => {
                // What cannot be read from the disk or unpacked will not get better in the next row.
                self.ended |= matches!(error.kind(), csv::ErrorKind::Io(_));
                let (column, why) = describe(&error);
                (column.and_then(|column| self.headers.get(column)).cloned(), why)
            }
        };
        Some(Err(BadRow { file: self.file.clone(), line: self.line, column, why }))
    }
}

impl<T: Row> Iterator for Rows<T> {
    type Item = Result<T, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.read_one() {
                Some(Err(bad)) if self.may_skip > 0 && !self.ended => {
                    self.may_skip -= 1;
                    self.skipped.push(bad);
                }
                Some(Ok(row)) => return Some(Ok(row)),
                end => {
                    self.ended = true;
                    return end;
                }
            }
        }
        None
    }
}

/// The cells of one row, by column.
pub struct Cells<'a> {
    record: &'a StringRecord,
    places: &'a [Option<usize>],
}

impl Cells<'_> {
    /// The text of a cell; none where it is empty or its column absent.
    pub(super) fn text(&self, column: Column) -> Option<&str> {
        let text = self.record.get(self.places[column.index]?)?;
        (!text.is_empty()).then_some(text)
    }

    /// A cell through `read`, which says in words what is wrong.
    pub(super) fn get<V, E: fmt::Display>(
        &self,
        column: Column,
        read: impl FnOnce(&str) -> Result<V, E>,
    ) -> Result<Option<V>, BadCell> {
        let value = self.text(column).map(read).transpose();
        value.map_err(|why| BadCell { column: column.name, why: why.to_string() })
    }

    /// The same for a cell that must not be empty.
    pub(super) fn need<V, E: fmt::Display>(
        &self,
        column: Column,
        read: impl FnOnce(&str) -> Result<V, E>,
    ) -> Result<V, BadCell> {
        self.get(column, read)?.ok_or_else(|| bad_cell(column, "is empty"))
    }

    /// Two cells that make a point together.
    pub(super) fn place(&self, latitude: Column, longitude: Column) -> Result<Option<Place>, BadCell> {
        let degrees =
            |text: &str| text.parse::<f64>().map_err(|_| format!("`{text}` is no number of degrees"));
        match (self.get(latitude, degrees)?, self.get(longitude, degrees)?) {
            (None, None) => Ok(None),
            (Some(north), Some(east)) => {
                let column = if (-90.0..=90.0).contains(&north) { longitude } else { latitude };
                let place = Place::new(north, east);
                place.map(Some).ok_or_else(|| bad_cell(column, "is outside ±90 and ±180 degrees"))
            }
            (None, Some(_)) => {
                Err(bad_cell(latitude, format!("is empty although `{}` is not", longitude.name)))
            }
            (Some(_), None) => {
                Err(bad_cell(longitude, format!("is empty although `{}` is not", latitude.name)))
            }
        }
    }
}

pub(super) fn bad_cell(column: Column, why: impl Into<String>) -> BadCell {
    BadCell { column: column.name, why: why.into() }
}

/// An id, which must not look like a card number where it names an account or a card.
pub(super) fn own_id(text: &str) -> Result<Id, String> {
    match looks_like_card_number(text) {
        true => Err("looks like a card number; only tokens are taken".to_owned()),
        false => id(text),
    }
}

pub(super) fn id(text: &str) -> Result<Id, String> {
    Id::new(text).map_err(|error| error.to_string())
}

/// A value of one of the closed vocabularies, in any case.
pub(super) fn name<V: Copy>(
    from: fn(&str) -> Option<V>,
    all: &'static [V],
    name_of: fn(V) -> &'static str,
) -> impl Fn(&str) -> Result<V, String> {
    move |text| {
        let names = || all.iter().map(|v| name_of(*v)).collect::<Vec<_>>().join(", ");
        from(text).ok_or_else(|| format!("`{text}` is none of {}", names()))
    }
}

pub(super) fn currency(text: &str) -> Result<Currency, String> {
    Currency::from_alpha(text).ok_or_else(|| format!("`{text}` is no ISO 4217 currency with a minor unit"))
}

/// The decimal of an amount in major units, without its currency.
pub(super) fn decimal(money: Money) -> String {
    let mut text = money.to_string();
    text.truncate(text.find(' ').unwrap_or(text.len()));
    text
}

/// The column's place, where one is to blame, and the cause.
fn describe(error: &csv::Error) -> (Option<usize>, String) {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => (Some(err.field()), "is not UTF-8".to_owned()),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (None, format!("has {len} cells where the header has {expected_len}"))
        }
        csv::ErrorKind::Io(error) => (None, format!("cannot be read: {error}")),
        _ => (None, error.to_string()),
    }
}

/// The input, unpacked where its first two bytes are those of gzip (RFC 1952).
fn unpacked(input: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut input = BufReader::with_capacity(128 * 1024, input);
    Ok(match input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        false => Box::new(input),
    })
}
