//! Which rows are learned from and which are measured.

use std::collections::HashMap;

use anyhow::bail;

use super::Args;
use crate::{
    features::catalog::MODEL_FEATURES,
    model::train::{Example, Examples},
    types::time::{DAY_MS, Timestamp},
};

/// What a row is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Period {
    /// Only the windows see it.
    Warming,
    Training,
    /// Its label was not known when the test began.
    TooYoung,
    Test,
    Unlabelled,
}

impl Period {
    pub(super) fn name(self) -> &'static str {
        match self {
            Period::Warming => "warming",
            Period::Training => "training",
            Period::TooYoung => "too_young",
            Period::Test => "test",
            Period::Unlabelled => "unlabelled",
        }
    }
}

/// Which rows are learned from and which are measured.
pub(super) struct Periods {
    /// A number for each account, by its id.
    accounts: HashMap<String, u32>,
    train_from: Option<Timestamp>,
    test_from: Option<Timestamp>,
    label_delay_ms: i64,
    /// Until when labels may have come for what is learned from: the beginning of the test, or the end of a journal.
    pub(super) horizon: Option<Timestamp>,
    pub(super) training: Examples,
    pub(super) test: Examples,
    /// Before the horizon, but too young for their label to have been known.
    pub(super) unused: u64,
    pub(super) unlabelled: u64,
}

/// One row, as far as it is not features.
pub(super) struct Known<'a> {
    pub(super) account: &'a str,
    pub(super) time: Timestamp,
    /// Whether it was fraud and when that became known, as far as anybody said.
    pub(super) label: Option<(bool, Option<Timestamp>)>,
}

impl Periods {
    pub(super) fn new(args: &Args) -> Periods {
        Periods {
            accounts: HashMap::new(),
            train_from: args.train_from,
            test_from: args.test_from,
            label_delay_ms: i64::from(args.label_delay) * DAY_MS,
            horizon: args.test_from,
            training: Examples::default(),
            test: Examples::default(),
            unused: 0,
            unlabelled: 0,
        }
    }

    /// # Errors
    /// Where a period has no rows, with what took them.
    pub(super) fn check(&self, args: &Args) -> anyhow::Result<()> {
        let Periods { training, test, unused, unlabelled, .. } = self;
        if training.is_empty() && test.is_empty() && *unused == 0 {
            match args.journal {
                Some(_) => bail!("the journal has no decision that a model could learn from"),
                None => bail!(
                    "no row has a label: the column `is_fraud` is missing or empty ({unlabelled} rows read)"
                ),
            }
        }
        if training.is_empty() {
            let delay = args.label_delay;
            let before = if args.train_from.is_some() { ", the others lie before --train-from" } else { "" };
            bail!(
                "no row is left to learn from: {unused} rows before the test, or the end, have a label that was not known by then \
                 (--label-delay is {delay} days), {unlabelled} have none{before}"
            );
        }
        if let Some(test_from) = args.test_from.filter(|_| test.is_empty()) {
            bail!("no labelled row lies at or after --test-from {test_from}: there is nothing to test on");
        }
        Ok(())
    }

    /// After how long a label counts as known.
    pub(super) fn label_delay_ms(&self) -> i64 {
        self.label_delay_ms
    }

    /// Whether, and for what, a row is used; it is kept where it is.
    pub(super) fn take(&mut self, known: &Known<'_>, row: &[f32; MODEL_FEATURES]) -> Period {
        let Known { account, time, label } = *known;
        let Some((is_fraud, labelled_at)) = label else {
            self.unlabelled += 1;
            return Period::Unlabelled;
        };
        let account = match self.accounts.get(account) {
            Some(number) => *number,
            None => {
                let next = self.accounts.len() as u32;
                self.accounts.insert(account.to_owned(), next);
                next
            }
        };
        let example = Example { row, is_fraud, account, time_ms: time.0 };
        let known_at = time.plus_ms(self.label_delay_ms).max(labelled_at.unwrap_or(time));
        if self.test_from.is_some_and(|test_from| time >= test_from) {
            self.test.push(example);
            return Period::Test;
        }
        if self.train_from.is_some_and(|train_from| time < train_from) {
            return Period::Warming;
        }
        if self.horizon.is_some_and(|horizon| known_at > horizon) {
            self.unused += 1;
            return Period::TooYoung;
        }
        self.training.push(example);
        Period::Training
    }
}
