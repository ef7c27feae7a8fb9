//! What the verbs that replay a file of transactions share: looking through it, and the accounts it is replayed on.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::{progress::spinner, serve::config_of};
use crate::{
    authorise::Observed,
    config::{Config, ControlShare},
    engine::{
        backtest::{Backtest, PastJournal},
        replay::VerifyError,
    },
    history::{BadRow, PastOutcome, Row, Rows, Selection, Survey, Transaction},
    journal::LogError,
    types::{account::AccountChange, fault::Fault, ids::RequestKey, lists::FraudLabel},
};

/// Credit limit of an account that is in no file, in major units of its currency.
pub(super) const DEFAULT_LIMIT: &str = "10000.00";
/// Days until it is known whether a transaction was fraud, where neither the history nor an argument says.
pub(super) const LABEL_DELAY_DAYS: u32 = 7;
/// What a reader of the figures must know.
pub(super) const HOLDS_NOTE: &str = "nothing in the file clears: the expiry of holds stands for payment";

/// The settings that a file of transactions is replayed under: those of the file that is named, else the defaults. Without a
/// file of accounts their limits are made up, whatever the settings say. Nothing is let through for a control group: which
/// transactions are in it is a running engine's own.
///
/// # Errors
/// Where the settings cannot be read, or are wrong.
pub(super) fn config(file: Option<&Path>, accounts: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = config_of(file)?;
    config.accounts.assumed_limits |= accounts.is_none();
    config.model.control_share = ControlShare::default();
    Ok(config)
}

/// Looks through a file of transactions; says on stderr what was left aside.
///
/// # Errors
/// Where a row cannot be read.
pub(super) fn survey(file: &Path, selection: Selection) -> anyhow::Result<Survey> {
    let progress = spinner("{human_pos} transactions read");
    let survey = Survey::of(file, selection, &mut || progress.inc(1));
    progress.finish_and_clear();
    let survey = survey?;
    left_aside(survey.warning.clone(), &survey.skipped);
    Ok(survey)
}

/// Looks through the journal of a data directory.
///
/// # Errors
/// Where there is none, or it is damaged.
pub(super) fn journal(data_dir: &Path) -> anyhow::Result<PastJournal> {
    let listed = std::fs::read_dir(data_dir);
    listed.with_context(|| format!("{} cannot be read", data_dir.display()))?;
    let progress = spinner("the journal is read");
    let opened = PastJournal::open(data_dir);
    progress.finish_and_clear();
    opened.map_err(|error| refused(data_dir, &error))
}

fn refused(data_dir: &Path, error: &VerifyError) -> anyhow::Error {
    let place = data_dir.display();
    match error {
        VerifyError::Journal(LogError::Io { .. }) => anyhow!(
            "{place}: {error}\nGive a data directory that `saker serve` or `saker demo --data` has written to."
        ),
        _ => anyhow!("{place}: {error}\nNothing was changed; `saker journal verify {place}` says more."),
    }
}

/// The accounts to replay on, in the order of their opening: those of the file of accounts, else those that the
/// transactions name.
///
/// # Errors
/// Where a row cannot be read, or the limit is no amount.
pub(super) fn openings(
    accounts: Option<&Path>,
    skip_bad_rows: u64,
    survey: &Survey,
    limit: &str,
) -> anyhow::Result<Vec<AccountChange>> {
    match accounts {
        Some(file) => read_all(file, skip_bad_rows),
        None => survey.openings(limit).map_err(|why| anyhow!("--default-limit: {why}")),
    }
}

/// The key of the upsert that opens the account at `place`.
pub(super) fn opening_key(place: usize) -> RequestKey {
    RequestKey::new(&format!("account opening {place}")).expect("short and printable")
}

/// Opens the accounts of a replay, under the same keys as a running engine is asked to.
///
/// # Errors
/// Where an account cannot be opened as its rows say.
pub(super) fn open(backtest: &mut Backtest, openings: Vec<AccountChange>) -> anyhow::Result<()> {
    for (place, change) in openings.into_iter().enumerate() {
        let account = change.account;
        let refused = |fault| anyhow!("account {account} cannot be opened: {}", in_words(&fault));
        backtest.upsert(opening_key(place), change).map_err(refused)?;
    }
    Ok(())
}

/// Says what the transaction that was replayed last was found to be, and when that became known: when its label came,
/// or so long after it.
pub(super) fn label(backtest: &mut Backtest, transaction: &Transaction, label_delay_ms: i64) {
    let Some(label) = transaction.label else { return };
    let found = if label.is_fraud { FraudLabel::Fraud } else { FraudLabel::Genuine };
    let request = &transaction.request;
    let time = request.transaction_time.unwrap_or_default();
    backtest.label(request, found, label.labelled_at.unwrap_or(time.plus_ms(label_delay_ms)));
}

fn in_words(fault: &Fault) -> String {
    match fault {
        Fault::Invalid(violations) => {
            let words =
                violations.iter().map(|violation| format!("{} {}", violation.field, violation.description));
            words.collect::<Vec<_>>().join(", ")
        }
        fault => fault.to_string(),
    }
}

/// What history did; approved where it does not say.
pub(super) fn observed(outcome: Option<PastOutcome>) -> Observed {
    outcome.map_or(Observed { approved: true, response_code: None }, |outcome| Observed {
        approved: outcome.approved,
        response_code: outcome.response_code,
    })
}

/// Every row of a file; says on stderr what was left aside.
fn read_all<T: Row>(file: &Path, skip_bad_rows: u64) -> anyhow::Result<Vec<T>> {
    let mut reader = Rows::open(file, skip_bad_rows)?;
    let rows = reader.by_ref().collect::<Result<_, _>>()?;
    left_aside(reader.warning(), reader.skipped());
    Ok(rows)
}

fn left_aside(warning: Option<String>, skipped: &[BadRow]) {
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    for bad in skipped {
        eprintln!("skipped: {bad}");
    }
}
