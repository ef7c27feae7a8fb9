//! Where the demo's traffic comes from: a simulated world, or a file of transactions.

use std::path::PathBuf;

use crate::{
    cli::past::{self, LABEL_DELAY_DAYS},
    history::{BadRow, Placed, Selection, Survey},
    sim::{self, FraudKind},
    types::{
        account::AccountChange,
        auth::AuthRequest,
        time::{DAY_MS, Timestamp},
    },
};

/// The simulated world: large enough that every kind of decline comes up, small enough to take seconds.
const ACCOUNTS: usize = 800;
const DAYS: u32 = 21;

/// One request to send, and what is known of it.
pub(super) struct Row {
    /// In the input, from 0.
    pub(super) place: u64,
    pub(super) request: AuthRequest,
    pub(super) truth: Truth,
    /// When somebody reports what it was, in the time of the transactions.
    pub(super) known_at: Timestamp,
}

/// After how long a fraud is reported where the file does not say when.
const LABEL_DELAY_MS: i64 = LABEL_DELAY_DAYS as i64 * DAY_MS;

/// What a transaction turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truth {
    Unknown,
    Genuine,
    /// The simulated world knows which pattern.
    Fraud(Option<FraudKind>),
}

/// A file of transactions, and how it is to be read.
pub(super) struct PastFile {
    pub(super) path: PathBuf,
    pub(super) selection: Selection,
    pub(super) default_limit: String,
}

/// Accounts and rows, ready to be sent.
pub(super) struct Source {
    /// For headings, such as `seed 1`.
    pub(super) name: String,
    pub(super) accounts: Vec<AccountChange>,
    pub(super) rows: u64,
    pub(super) traffic: Box<dyn Iterator<Item = Result<Row, BadRow>>>,
}

impl Source {
    /// The first `limit` transactions of a simulated world.
    pub(super) fn simulated(seed: u64, limit: Option<u64>) -> Source {
        let settings = sim::Settings { accounts: ACCOUNTS, days: DAYS, seed, start: sim::DEFAULT_START };
        let sim::World { accounts, mut transactions } = sim::generate(settings);
        transactions.truncate(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX));
        let rows = transactions.len() as u64;
        let row = |(place, transaction): (usize, sim::LabelledTransaction)| {
            let truth = match transaction.fraud_kind {
                None => Truth::Genuine,
                kind => Truth::Fraud(kind),
            };
            let (request, known_at) = (transaction.request, transaction.labelled_at);
            Ok(Row { place: place as u64, request, truth, known_at })
        };
        let traffic = Box::new(transactions.into_iter().enumerate().map(row));
        Source { name: format!("seed {seed}"), accounts, rows, traffic }
    }

    /// The rows of a file by their timestamps, on accounts that open as its transactions name them.
    ///
    /// # Errors
    /// Where a row cannot be read, or the limit is no amount.
    pub(super) fn of_file(file: &PastFile) -> anyhow::Result<Source> {
        let PastFile { path, selection, default_limit } = file;
        let survey: Survey = past::survey(path, *selection)?;
        let accounts = past::openings(None, 0, &survey, default_limit)?;
        let row = |placed: Result<Placed, BadRow>| {
            let Placed { place, transaction } = placed?;
            let truth = match transaction.label {
                None => Truth::Unknown,
                Some(label) if label.is_fraud => Truth::Fraud(None),
                Some(_) => Truth::Genuine,
            };
            let (request, said_at) =
                (transaction.request, transaction.label.and_then(|label| label.labelled_at));
            let time = request.transaction_time.unwrap_or_default();
            let known_at = said_at.unwrap_or(time.plus_ms(LABEL_DELAY_MS));
            Ok(Row { place, request, truth, known_at })
        };
        let traffic = Box::new(survey.replay()?.map(row));
        Ok(Source { name: path.display().to_string(), accounts, rows: survey.rows, traffic })
    }
}
