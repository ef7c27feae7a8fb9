//! `--scores OUT.csv`: what was decided on each row of the input, one line a row and in its order, whatever order the
//! rows were decided in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The columns. The score is the model's margin in log-odds, written so that reading it gives back the same number.
const COLUMNS: [&str; 5] = ["transaction_id", "score", "decision", "response_code", "reasons"];
/// Significant digits of a score at the least.
const DIGITS_MIN: usize = 9;

/// One line.
#[derive(Default)]
pub(super) struct Line {
    pub(super) transaction_id: String,
    /// Absent where nothing was scored.
    pub(super) margin: Option<f64>,
    /// Empty where nothing was decided, like the two after it.
    pub(super) decision: &'static str,
    pub(super) response_code: String,
    /// Codes, the deciding one first.
    pub(super) reasons: Vec<String>,
}

/// The file being written.
pub(super) struct Scores {
    path: PathBuf,
    csv: csv::Writer<BufWriter<File>>,
    next: u64,
    /// Lines whose turn has not come.
    waiting: BTreeMap<u64, Line>,
}

impl Scores {
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn create(path: &Path) -> anyhow::Result<Scores> {
        let context = || format!("{} cannot be written", path.display());
        let file = File::create(path).with_context(context)?;
        let mut csv = csv::Writer::from_writer(BufWriter::new(file));
        csv.write_record(COLUMNS).with_context(context)?;
        Ok(Scores { path: path.to_owned(), csv, next: 0, waiting: BTreeMap::new() })
    }

    /// Takes the line of the row at `place`, counted from 0.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn put(&mut self, place: u64, line: Line) -> anyhow::Result<()> {
        if place != self.next {
            self.waiting.insert(place, line);
            return Ok(());
        }
        self.write(&line)?;
        while let Some(line) = self.waiting.remove(&self.next) {
            self.write(&line)?;
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        let score = line.margin.map(decimal).unwrap_or_default();
        let reasons = line.reasons.join("|");
        let cells = [&line.transaction_id, &score, line.decision, &line.response_code, &reasons];
        self.next += 1;
        self.csv.write_record(cells).with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Writes what is buffered; a full disk is an error, not a short file.
    ///
    /// # Errors
    /// Where the file cannot be written, or a row has no line.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.csv.flush().with_context(|| format!("{} cannot be written", self.path.display()))?;
        anyhow::ensure!(
            self.waiting.is_empty(),
            "{} is short: row {} has no answer",
            self.path.display(),
            self.next + 1
        );
        Ok(())
    }
}

/// A number as a decimal without exponent: the fewest digits that give back the same number, and zeros up to
/// [`DIGITS_MIN`] significant ones.
fn decimal(number: f64) -> String {
    let mut text = number.to_string();
    let significant =
        text.bytes().skip_while(|b| !(b'1'..=b'9').contains(b)).filter(u8::is_ascii_digit).count();
    if significant < DIGITS_MIN {
        if !text.contains('.') {
            text.push('.');
        }
        text.extend(std::iter::repeat_n('0', DIGITS_MIN - significant));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(transaction_id: &str) -> Line {
        Line { transaction_id: transaction_id.to_owned(), ..Line::default() }
    }

    #[test]
    fn a_score_has_nine_digits_and_no_two_margins_share_one() {
        for (number, text) in [
            (1.5, "1.50000000"),
            (-3.0, "-3.00000000"),
            (0.0, "0.000000000"),
            (-0.0625, "-0.0625000000"),
            (120.0, "120.000000"),
            (-2.321_928_094_887_362, "-2.321928094887362"),
        ] {
            assert_eq!(decimal(number), text);
        }
        let mut margin = -0.000_123_f64;
        for _ in 0..1_000 {
            let next = margin.next_up();
            assert_eq!(decimal(margin).parse::<f64>(), Ok(margin));
            assert_ne!(decimal(margin), decimal(next));
            margin = next;
        }
    }

    #[test]
    fn lines_stand_in_the_order_of_the_input() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.csv");
        let mut scores = Scores::create(&path).unwrap();
        let scored = Line {
            margin: Some(-1.25),
            decision: "DECLINED",
            response_code: "59".to_owned(),
            reasons: vec!["A".to_owned(), "B".to_owned()],
            ..line("T,0")
        };
        for (place, line) in [(2, line("T2")), (1, line("T1")), (0, scored), (3, line("T3"))] {
            scores.put(place, line).unwrap();
        }
        scores.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "transaction_id,score,decision,response_code,reasons\n\"T,0\",-1.25000000,DECLINED,59,A|B\nT1,,,,\nT2,,,,\n\
             T3,,,,\n"
        );
    }

    #[test]
    fn the_columns_are_those_of_the_document() {
        assert_eq!(crate::history::documented::documented("scores"), COLUMNS);
    }

    #[test]
    fn a_row_without_an_answer_is_an_error_and_not_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let mut scores = Scores::create(&directory.path().join("scores.csv")).unwrap();
        scores.put(0, line("T0")).unwrap();
        scores.put(2, line("T2")).unwrap();
        assert!(scores.finish().unwrap_err().to_string().contains("row 2 has no answer"));
    }
}
