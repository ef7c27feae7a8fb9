//! What fraud did to accounts: which of them were caught, when, and what was gone by then.
//!
//! An episode is a run of frauds on one account with no more than [`EPISODE_GAP_DAYS`] days from one to the next. It is
//! caught at its first fraud that is declined for suspicion: from there on an issuer has the account stopped, so that
//! what comes later counts as saved, whatever is decided on it here.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::volume::{Row, Volume, share};
use crate::types::{
    ids::AccountId,
    time::{DAY_MS, Timestamp},
};

/// Days between two frauds of an account above which the later one begins another episode.
pub(super) const EPISODE_GAP_DAYS: i64 = 7;

/// What accounts and episodes came to.
#[derive(Default)]
pub(super) struct Episodes {
    accounts: HashMap<AccountId, Account, RandomState>,
    /// Accounts of which a genuine transaction was declined for suspicion.
    wronged: HashSet<AccountId, RandomState>,
    pub(super) episodes: u64,
    pub(super) episodes_caught: u64,
    /// Fraud approved before its episode was caught.
    pub(super) lost: Volume,
    /// Fraud from the first decline of its episode on, that one included.
    pub(super) saved: Volume,
    /// Fraud that credit or status declined before its episode was caught.
    pub(super) stopped_otherwise: Volume,
}

struct Account {
    /// Of its last fraud.
    last: Timestamp,
    /// Whether its present episode is caught.
    is_stopped: bool,
    /// Whether any was.
    is_caught: bool,
}

impl Episodes {
    pub(super) fn add(&mut self, account: AccountId, at: Timestamp, row: &Row) {
        match row.is_fraud {
            None => return,
            Some(false) => {
                if row.is_suspected {
                    self.wronged.insert(account);
                }
                return;
            }
            Some(true) => {}
        }
        let is_new = !self.accounts.contains_key(&account);
        let known =
            self.accounts.entry(account).or_insert(Account { last: at, is_stopped: false, is_caught: false });
        if is_new || at.since_ms(known.last) > EPISODE_GAP_DAYS * DAY_MS {
            self.episodes += 1;
            known.is_stopped = false;
        }
        known.last = at;
        if row.is_suspected && !known.is_stopped {
            (known.is_stopped, known.is_caught) = (true, true);
            self.episodes_caught += 1;
        }
        let sum = match (known.is_stopped, row.is_against) {
            (true, _) => &mut self.saved,
            (false, true) => &mut self.stopped_otherwise,
            (false, false) => &mut self.lost,
        };
        sum.add(row.billed);
    }

    /// Accounts with fraud.
    pub(super) fn accounts(&self) -> u64 {
        self.accounts.len() as u64
    }

    /// Of them those on which any of it was caught.
    pub(super) fn accounts_caught(&self) -> u64 {
        self.accounts.values().filter(|account| account.is_caught).count() as u64
    }

    pub(super) fn account_detection_rate(&self) -> Option<f64> {
        share(self.accounts_caught(), self.accounts())
    }

    pub(super) fn accounts_wronged(&self) -> u64 {
        self.wronged.len() as u64
    }

    /// Genuine transactions declined for suspicion for each account on which fraud was caught.
    pub(super) fn false_positives_per_caught_account(&self, false_positives: u64) -> Option<f64> {
        share(false_positives, self.accounts_caught())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::money::{Currency, Money};

    #[test]
    fn money_is_saved_from_the_first_decline_of_an_episode_on_and_no_earlier() {
        let usd = Currency::from_alpha("USD").unwrap();
        let mut episodes = Episodes::default();
        let mut add = |account: &str, hour: i64, minor: i64, is_fraud: bool, how: &str| {
            let row = Row {
                billed: Some(Money::new(minor, usd)),
                is_fraud: Some(is_fraud),
                is_against: how != "approved",
                is_suspected: how == "suspected",
            };
            episodes.add(AccountId::new(account).unwrap(), Timestamp(hour * DAY_MS / 24), &row);
        };
        add("A", 0, 1, true, "approved");
        add("A", 1, 2, true, "no credit");
        add("A", 2, 4, true, "suspected");
        add("A", 3, 8, true, "approved");
        // More than seven days later another episode begins, and is missed.
        add("A", 3 + 7 * 24, 16, true, "approved");
        add("A", 4 + 14 * 24, 32, true, "approved");
        add("B", 4, 64, true, "approved");
        add("C", 4, 128, false, "suspected");
        add("C", 5, 256, false, "suspected");
        assert_eq!((episodes.episodes, episodes.episodes_caught), (3, 1));
        assert_eq!((episodes.accounts(), episodes.accounts_caught(), episodes.accounts_wronged()), (2, 1, 1));
        assert_eq!(episodes.saved.minor_of(usd), 4 + 8 + 16, "the gap is seven days sharp: the same episode");
        assert_eq!(episodes.lost.minor_of(usd), 1 + 32 + 64);
        assert_eq!(episodes.stopped_otherwise.minor_of(usd), 2);
        assert_eq!(episodes.false_positives_per_caught_account(2), Some(2.0));
    }
}
