//! What fraud did to accounts: which of them were caught, when, and what was gone by then.
//!
//! An episode is a run of frauds on one account with no more than [`EPISODE_GAP_DAYS`] days from one to the next. It is
//! caught at its first fraud that is declined or asked to step up for suspicion. From the first such decline on an issuer
//! has the account stopped, so that what comes later counts as saved, whatever is decided on it here. A step-up stops no
//! account, and whether a fraudster gets through it is not known: what was asked to step up before is told by itself.

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
    /// Accounts of which a genuine transaction was declined or asked to step up for suspicion.
    wronged: HashSet<AccountId, RandomState>,
    pub(super) episodes: u64,
    pub(super) episodes_caught: u64,
    /// Fraud approved before the first decline for suspicion of its episode.
    pub(super) lost: Volume,
    /// Fraud from that decline on, that one included.
    pub(super) saved: Volume,
    /// Fraud asked to step up before it.
    pub(super) step_ups: Volume,
    /// Fraud that credit or status declined before it.
    pub(super) stopped_otherwise: Volume,
}

struct Account {
    /// Of its last fraud.
    last: Timestamp,
    /// Whether its present episode is caught.
    is_caught: bool,
    /// Whether any was.
    was_caught: bool,
    /// Whether a fraud of its present episode was declined for suspicion.
    is_stopped: bool,
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
        let unseen = Account { last: at, is_caught: false, was_caught: false, is_stopped: false };
        let known = self.accounts.entry(account).or_insert(unseen);
        if is_new || at.since_ms(known.last) > EPISODE_GAP_DAYS * DAY_MS {
            self.episodes += 1;
            (known.is_caught, known.is_stopped) = (false, false);
        }
        known.last = at;
        if row.is_suspected && !known.is_caught {
            (known.is_caught, known.was_caught) = (true, true);
            self.episodes_caught += 1;
        }
        known.is_stopped |= row.is_suspected && row.is_declined;
        let sum = match known.is_stopped {
            true => &mut self.saved,
            false if row.is_step_up => &mut self.step_ups,
            false if row.is_declined => &mut self.stopped_otherwise,
            false => &mut self.lost,
        };
        sum.add(row.billed);
    }

    /// Accounts with fraud.
    pub(super) fn accounts(&self) -> u64 {
        self.accounts.len() as u64
    }

    /// Of them those on which any of it was caught.
    pub(super) fn accounts_caught(&self) -> u64 {
        self.accounts.values().filter(|account| account.was_caught).count() as u64
    }

    pub(super) fn account_detection_rate(&self) -> Option<f64> {
        share(self.accounts_caught(), self.accounts())
    }

    pub(super) fn accounts_wronged(&self) -> u64 {
        self.wronged.len() as u64
    }

    /// Genuine transactions declined or asked to step up for suspicion for each account on which fraud was caught.
    pub(super) fn false_positives_per_caught_account(&self, false_positives: u64) -> Option<f64> {
        share(false_positives, self.accounts_caught())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        codes::Decision,
        money::{Currency, Money},
    };

    #[test]
    fn money_is_saved_from_the_first_decline_of_an_episode_on_and_no_earlier() {
        let usd = Currency::from_alpha("USD").unwrap();
        let mut episodes = Episodes::default();
        let mut add = |account: &str, hour: i64, minor: i64, is_fraud: bool, how: &str| {
            let row = Row {
                billed: Some(Money::new(minor, usd)),
                is_fraud: Some(is_fraud),
                is_declined: how == "no credit" || how == "suspected",
                is_step_up: how == "step-up",
                is_suspected: how == "suspected" || how == "step-up",
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
        add("C", 5, 256, false, "step-up");
        assert_eq!((episodes.episodes, episodes.episodes_caught), (3, 1));
        assert_eq!((episodes.accounts(), episodes.accounts_caught(), episodes.accounts_wronged()), (2, 1, 1));
        assert_eq!(episodes.saved.minor_of(usd), 4 + 8 + 16, "the gap is seven days sharp: the same episode");
        assert_eq!(episodes.lost.minor_of(usd), 1 + 32 + 64);
        assert_eq!(episodes.stopped_otherwise.minor_of(usd), 2);
        assert_eq!(episodes.false_positives_per_caught_account(2), Some(2.0));
    }

    #[test]
    fn a_step_up_catches_an_episode_and_saves_no_money_before_its_first_decline() {
        let usd = Currency::from_alpha("USD").unwrap();
        let mut episodes = Episodes::default();
        for (hour, minor, how) in [
            (0, 1, Decision::Approved),
            (1, 2, Decision::StepUp),
            (2, 4, Decision::Approved),
            (3, 8, Decision::StepUp),
            (4, 16, Decision::Declined),
            (5, 32, Decision::StepUp),
            (6, 64, Decision::Approved),
        ] {
            let row = Row {
                billed: Some(Money::new(minor, usd)),
                is_fraud: Some(true),
                is_declined: how == Decision::Declined,
                is_step_up: how == Decision::StepUp,
                is_suspected: how != Decision::Approved,
            };
            episodes.add(AccountId::new("A").unwrap(), Timestamp(hour * DAY_MS / 24), &row);
        }
        assert_eq!((episodes.episodes, episodes.episodes_caught, episodes.accounts_caught()), (1, 1, 1));
        let sums = [&episodes.lost, &episodes.step_ups, &episodes.saved, &episodes.stopped_otherwise];
        assert_eq!(sums.map(|sum| sum.minor_of(usd)), [1 + 4, 2 + 8, 16 + 32 + 64, 0]);
    }
}
