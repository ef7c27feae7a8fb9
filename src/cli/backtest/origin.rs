//! Where a history comes from and what it was replayed with: everything somebody needs to make the same figures again.

use std::{borrow::Cow, fs::File, io, path::Path};

use anyhow::Context as _;

use crate::cli::past::HOLDS_NOTE;
use crate::{
    engine::backtest::PastJournal,
    history::{BadRow, Survey},
    types::{
        base::BaseCurrency,
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// What a reader must know of the labels of a file.
const LABELS_NOTE: &str =
    "windows over labels count each from when it was known, and label policies follow it then";
const NO_LABELS_NOTE: &str =
    "no window or policy of these rules reads labels, and there is no model: the label delay changes nothing";
const JOURNAL_NOTE: &str =
    "openings, changes, reversals, voids and expiries of holds are those of the journal, at its times";
const OBSERVED_NOTE: &str = "windows and holds follow what history decided, not these decisions";
const UNLABELLED: &str = "no row says whether it was fraud: fraud figures need labels";
const JOURNAL_UNLABELLED: &str =
    "the journal has no label of any of these transactions: fraud figures need labels";
const JOURNAL_LABELS_NOTE: &str = "fraud figures take the newest label that the journal has of each transaction, whenever it came; what nobody labelled \
     and is older than the label delay counts as genuine";

/// What was replayed.
pub(super) struct Origin {
    /// The file, or the data directory.
    pub(super) name: String,
    /// Rows of the file, or requests of the journal.
    pub(super) rows: u64,
    /// Times of the first and of the last.
    pub(super) period: Option<(Timestamp, Timestamp)>,
    /// Whether the rows had to be sorted by time first.
    pub(super) is_sorted: bool,
    /// Rows passed over because they cannot be read.
    pub(super) skipped: Vec<BadRow>,
    /// What a reader of the figures must know.
    pub(super) notes: Vec<Cow<'static, str>>,
    /// What is said where no label is known.
    pub(super) unlabelled: &'static str,
}

/// What a reader must know of rows whose amounts cannot be told in the base currency; `None` where there are none.
pub(super) fn without_rate(survey: &Survey, base: &BaseCurrency) -> Option<String> {
    let has_none = |(currency, _): &(&Currency, &u64)| base.minor_of(Money::new(0, **currency)).is_none();
    let without: Vec<(&Currency, &u64)> = survey.billed.iter().filter(has_none).collect();
    let rows: u64 = without.iter().map(|(_, rows)| **rows).sum();
    let mut names: Vec<String> = without.iter().map(|(currency, _)| currency.to_string()).collect();
    names.sort_unstable();
    (rows > 0).then(|| {
        format!(
            "{rows} rows without an `amount_base`: no rate for {}; they add nothing to sums across accounts. Give rates as \
             [base_currency] of --config FILE",
            names.join(", ")
        )
    })
}

/// What a reader must know of rows that do not say what history decided, where it is followed; `None` where all do.
pub(super) fn without_outcome(survey: &Survey) -> Option<String> {
    match survey.rows - survey.with_outcome {
        0 => None,
        missing if missing == survey.rows => {
            Some("no row says what history decided (`outcome`): all of them count as approved".to_owned())
        }
        missing => {
            Some(format!("{missing} rows do not say what history decided (`outcome`) and count as approved"))
        }
    }
}

impl Origin {
    pub(super) fn of_file(
        file: &Path,
        survey: &Survey,
        base: &BaseCurrency,
        observe: bool,
        reads_labels: bool,
    ) -> Origin {
        let labels = if reads_labels { LABELS_NOTE } else { NO_LABELS_NOTE };
        Origin {
            name: file.display().to_string(),
            rows: survey.rows,
            period: survey.period,
            is_sorted: !survey.in_order,
            skipped: survey.skipped.clone(),
            notes: notes(&[HOLDS_NOTE, labels], observe)
                .into_iter()
                .chain(without_outcome(survey).filter(|_| observe).map(Cow::Owned))
                .chain(without_rate(survey, base).map(Cow::Owned))
                .collect(),
            unlabelled: UNLABELLED,
        }
    }

    /// Rows and period are known once it was replayed.
    pub(super) fn of_journal(data_dir: &Path, observe: bool) -> Origin {
        Origin {
            name: data_dir.display().to_string(),
            rows: 0,
            period: None,
            is_sorted: false,
            skipped: Vec::new(),
            notes: notes(&[JOURNAL_NOTE, JOURNAL_LABELS_NOTE], observe),
            unlabelled: JOURNAL_UNLABELLED,
        }
    }

    /// One more request, at this time.
    pub(super) fn note(&mut self, time: Timestamp) {
        let (first, last) = self.period.unwrap_or((time, time));
        self.rows += 1;
        self.period = Some((first.min(time), last.max(time)));
    }
}

fn notes(always: &[&'static str], observe: bool) -> Vec<Cow<'static, str>> {
    always.iter().copied().chain(observe.then_some(OBSERVED_NOTE)).map(Cow::Borrowed).collect()
}

/// One thing that was read, with what it was at that moment.
pub(super) struct Input {
    /// The option that named it.
    pub(super) option: &'static str,
    pub(super) name: String,
    /// BLAKE3 of its bytes; of a journal, the head of its hash chain; of the shipped rules and model, of their text.
    pub(super) fingerprint: String,
}

impl Input {
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn file(option: &'static str, path: &Path) -> anyhow::Result<Input> {
        let mut hasher = blake3::Hasher::new();
        File::open(path)
            .and_then(|mut file| io::copy(&mut file, &mut hasher))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let fingerprint = hasher.finalize().to_hex().to_string();
        Ok(Input { option, name: path.display().to_string(), fingerprint })
    }

    pub(super) fn text(option: &'static str, name: &str, text: &str) -> Input {
        let fingerprint = blake3::hash(text.as_bytes()).to_hex().to_string();
        Input { option, name: name.to_owned(), fingerprint }
    }

    pub(super) fn journal(data_dir: &Path, journal: &PastJournal) -> Input {
        let head = blake3::Hash::from_bytes(journal.chain().summary.chain_hash);
        Input {
            option: "--journal",
            name: format!("{}, up to position {}", data_dir.display(), journal.last_position()),
            fingerprint: head.to_hex().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Selection;

    #[test]
    fn rows_that_do_not_say_what_history_decided_are_told_of_before_it_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.csv");
        let told = |outcomes: [&str; 2]| {
            let mut text =
                "transaction_id,timestamp,account_id,amount,currency,merchant_id,outcome\n".to_owned();
            for (row, outcome) in outcomes.iter().enumerate() {
                text += &format!("T{row},2026-01-0{}T00:00:00Z,A1,1.00,USD,M1,{outcome}\n", row + 1);
            }
            std::fs::write(&file, text).unwrap();
            without_outcome(&Survey::of(&file, Selection::default(), &mut || {}).unwrap())
        };
        assert_eq!(told(["approved", "declined"]), None);
        assert!(told(["", "declined"]).unwrap().starts_with("1 rows do not say"));
        assert!(told(["", ""]).unwrap().starts_with("no row says"));
    }
}
