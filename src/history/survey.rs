//! The first look through a file of transactions: what must be known before the first of them is replayed.
//!
//! An account that no file describes opens before the replay, with every card that the file names for it and with
//! what the row of its first transaction says. Opening it later would not be the same: a request that names only the
//! account means its card where it has exactly one.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    hash::BuildHasher as _,
    path::{Path, PathBuf},
};

use foldhash::fast::RandomState;

use super::{BadRow, Replay, Rows, Transaction};
use crate::{
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX},
    types::{
        account::{AccountChange, CardChange},
        auth::Place,
        ids::{AccountId, CardToken, RequestKey},
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// Which rows of a file are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// So many rows that cannot be read are passed over, and listed.
    pub skip_bad_rows: u64,
    /// Only so many rows from the start of the file.
    pub limit: Option<u64>,
}

/// What a file of transactions holds.
pub struct Survey {
    pub(super) file: PathBuf,
    pub(super) selection: Selection,
    /// Rows that can be read and are meant.
    pub rows: u64,
    /// Time of the first and of the last transaction; absent where there is none.
    pub period: Option<(Timestamp, Timestamp)>,
    /// Whether the rows stand in order of time already.
    pub in_order: bool,
    /// Rows that say whether they were fraud.
    pub labelled: u64,
    /// Rows that say what history decided.
    pub with_outcome: u64,
    /// Rows by the currency that they are billed in.
    pub billed: BTreeMap<Currency, u64>,
    /// One sentence on the columns that are not understood.
    pub warning: Option<String>,
    /// The bad rows passed over.
    pub skipped: Vec<BadRow>,
    accounts: Accounts,
    /// Hashes of the ids that come more than once, and perhaps of a few others.
    repeated: HashSet<u64, RandomState>,
    hasher: RandomState,
}

impl Survey {
    /// Looks through a file; `progress` is told of every row.
    ///
    /// # Errors
    /// Where a row cannot be read that may not be passed over, or names a card of another account.
    pub fn of(file: &Path, selection: Selection, progress: &mut dyn FnMut()) -> Result<Survey, BadRow> {
        let mut rows = Rows::<Transaction>::open(file, selection.skip_bad_rows)?;
        let mut survey = Survey {
            file: file.to_owned(),
            selection,
            rows: 0,
            period: None,
            in_order: true,
            labelled: 0,
            with_outcome: 0,
            billed: BTreeMap::new(),
            warning: rows.warning(),
            skipped: Vec::new(),
            accounts: Accounts::default(),
            repeated: HashSet::default(),
            hasher: RandomState::default(),
        };
        let mut seen = HashSet::<u64, RandomState>::default();
        let limit = selection.limit.unwrap_or(u64::MAX);
        while survey.rows < limit
            && let Some(row) = rows.next()
        {
            let transaction = row?;
            survey.accounts.meet(&transaction).map_err(|why| rows.blame("card_id", why))?;
            let time = transaction.request.transaction_time.unwrap_or_default();
            let (first, last) = survey.period.unwrap_or((time, time));
            survey.in_order &= time >= last;
            survey.period = Some((first.min(time), last.max(time)));
            survey.labelled += u64::from(transaction.label.is_some());
            survey.with_outcome += u64::from(transaction.outcome.is_some());
            if let Some(billed) = transaction.request.billed() {
                *survey.billed.entry(billed.currency).or_default() += 1;
            }
            let id = survey.hasher.hash_one(transaction.request.key);
            if !seen.insert(id) {
                survey.repeated.insert(id);
            }
            survey.rows += 1;
            progress();
        }
        survey.skipped = rows.skipped().to_vec();
        Ok(survey)
    }

    /// The rows in the order of their replay, read again on a thread of its own.
    ///
    /// # Errors
    /// Where the file cannot be opened again or no thread can be started.
    pub fn replay(&self) -> Result<Replay, BadRow> {
        Replay::start(self)
    }

    /// False only for an id that the file has once.
    pub fn may_repeat(&self, id: &RequestKey) -> bool {
        self.repeated.contains(&self.hasher.hash_one(id))
    }

    /// The accounts of the file with all their cards, in the order in which the file names them first. `limit` is
    /// the credit limit of each in major units of its currency.
    ///
    /// # Errors
    /// In words, where the limit is no amount in one of the currencies.
    pub fn openings(&self, limit: &str) -> Result<Vec<AccountChange>, String> {
        self.accounts.met.iter().map(|met| met.opening(limit)).collect()
    }
}

/// The accounts that rows have named so far.
#[derive(Default)]
struct Accounts {
    met: Vec<Met>,
    by_id: HashMap<AccountId, usize, RandomState>,
    /// Which account has a card.
    by_card: HashMap<CardToken, usize, RandomState>,
}

struct Met {
    account: AccountId,
    /// Of its earliest row so far.
    time: Timestamp,
    currency: Currency,
    home: Option<Place>,
    cards: Vec<CardToken>,
}

impl Accounts {
    /// # Errors
    /// In words, where the row's card cannot be the account's.
    fn meet(&mut self, transaction: &Transaction) -> Result<(), String> {
        let Transaction { request, account, card, currency, home, .. } = transaction;
        let time = request.transaction_time.unwrap_or_default();
        let at = *self.by_id.entry(*account).or_insert(self.met.len());
        if at == self.met.len() {
            let (account, currency, home, cards) = (*account, *currency, *home, Vec::new());
            self.met.push(Met { account, time, currency, home, cards });
        }
        let met = &mut self.met[at];
        if time < met.time {
            (met.time, met.currency, met.home) = (time, *currency, *home);
        }
        let Some(card) = card else { return Ok(()) };
        match self.by_card.entry(*card) {
            Entry::Occupied(entry) if *entry.get() == at => {}
            Entry::Occupied(entry) => {
                let owner = self.met[*entry.get()].account;
                return Err(format!("the card is account {owner}'s on an earlier row"));
            }
            Entry::Vacant(_) if met.cards.len() >= CARDS_PER_ACCOUNT_MAX => {
                return Err(format!("the account has more than {CARDS_PER_ACCOUNT_MAX} cards"));
            }
            Entry::Vacant(entry) => {
                entry.insert(at);
                met.cards.push(*card);
            }
        }
        Ok(())
    }
}

impl Met {
    fn opening(&self, limit: &str) -> Result<AccountChange, String> {
        let card = |token: &CardToken| CardChange { token: *token, status: None, expires_on: None };
        Ok(AccountChange {
            account: self.account,
            currency: Some(self.currency),
            credit_limit_minor: Some(limit_minor(limit, self.currency)?),
            posted_minor: None,
            status: None,
            product: None,
            home_country: None,
            home: self.home,
            opened_on: None,
            cards: self.cards.iter().map(card).collect(),
        })
    }
}

/// A limit that is the same number in every currency: decimals that some do not have must not matter while they
/// are zeros.
fn limit_minor(limit: &str, currency: Currency) -> Result<i64, String> {
    let digits = match limit.contains('.') {
        true => limit.trim_end_matches('0').trim_end_matches('.'),
        false => limit,
    };
    match Money::parse_major(digits, currency)?.minor {
        minor @ 0..=AMOUNT_MINOR_MAX => Ok(minor),
        minor if minor < 0 => Err(format!("`{limit}` is negative")),
        _ => Err(format!("`{limit}` is too large in {currency}")),
    }
}
