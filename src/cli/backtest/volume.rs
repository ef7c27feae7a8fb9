//! Sums of transactions: how many, how much by currency, and what of it was fraud. Amounts of two currencies are never
//! added up.

use crate::types::money::{Currency, Money};

/// A number of transactions and what they come to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Volume {
    pub(super) count: u64,
    /// Minor units by currency, in the order of their numbers. Transactions without an amount are in none.
    pub(super) minor: Vec<(Currency, i128)>,
}

impl Volume {
    pub(super) fn add(&mut self, billed: Option<Money>) {
        self.count += 1;
        if let Some(billed) = billed {
            self.add_minor(billed.currency, i128::from(billed.minor));
        }
    }

    fn add_minor(&mut self, currency: Currency, minor: i128) {
        let found = self.minor.iter().position(|(known, _)| *known >= currency);
        match found {
            Some(at) if self.minor[at].0 == currency => self.minor[at].1 += minor,
            Some(at) => self.minor.insert(at, (currency, minor)),
            None => self.minor.push((currency, minor)),
        }
    }

    pub(super) fn merge(&mut self, other: &Volume) {
        self.count += other.count;
        other.minor.iter().for_each(|(currency, minor)| self.add_minor(*currency, *minor));
    }

    /// Minor units of one currency.
    pub(super) fn minor_of(&self, currency: Currency) -> i128 {
        self.minor.iter().find(|(known, _)| *known == currency).map_or(0, |(_, minor)| *minor)
    }

    /// What part of `whole` this is, currency by currency; those of which `whole` has nothing are left out.
    pub(super) fn share_of(&self, whole: &Volume) -> Vec<(Currency, f64)> {
        let known = whole.minor.iter().filter(|(_, minor)| *minor > 0);
        known.map(|(currency, minor)| (*currency, self.minor_of(*currency) as f64 / *minor as f64)).collect()
    }
}

/// What a reason decided, or a rule fired on.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Yield {
    pub(super) all: Volume,
    /// Of them known as fraud.
    pub(super) fraud: Volume,
    /// Of them known as genuine: false positives, where they were declined.
    pub(super) genuine: u64,
}

impl Yield {
    pub(super) fn add(&mut self, billed: Option<Money>, is_fraud: Option<bool>) {
        self.all.add(billed);
        match is_fraud {
            Some(true) => self.fraud.add(billed),
            Some(false) => self.genuine += 1,
            None => {}
        }
    }

    /// Share of fraud among what is known; absent where nothing is.
    pub(super) fn precision(&self) -> Option<f64> {
        share(self.fraud.count, self.fraud.count + self.genuine)
    }
}

/// One decision as it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) billed: Option<Money>,
    pub(super) is_fraud: Option<bool>,
    pub(super) is_declined: bool,
    /// Whether the cardholder was asked to authenticate instead.
    pub(super) is_step_up: bool,
    /// Whether either was for suspicion of fraud: by a rule, a list or the model.
    pub(super) is_suspected: bool,
}

impl Row {
    /// Whether the cardholder did not get what was asked for.
    pub(super) fn is_against(&self) -> bool {
        self.is_declined || self.is_step_up
    }
}

/// The decisions on a part of the transactions.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Slice {
    pub(super) all: Volume,
    /// For whatever reason.
    pub(super) declined: Volume,
    pub(super) step_ups: Volume,
    /// Of both, for suspicion of fraud, whether or not that is known.
    pub(super) suspected: u64,
    pub(super) fraud: Volume,
    /// Fraud that was declined or asked to step up for suspicion of it.
    pub(super) caught: Volume,
    pub(super) genuine: u64,
    /// Genuine and declined or asked to step up for suspicion of fraud.
    pub(super) false_positives: u64,
}

impl Slice {
    pub(super) fn add(&mut self, row: &Row) {
        let Row { billed, is_fraud, is_declined, is_step_up, is_suspected } = *row;
        self.all.add(billed);
        if is_declined {
            self.declined.add(billed);
        }
        if is_step_up {
            self.step_ups.add(billed);
        }
        self.suspected += u64::from(is_suspected);
        match is_fraud {
            None => {}
            Some(true) => {
                self.fraud.add(billed);
                if is_suspected {
                    self.caught.add(billed);
                }
            }
            Some(false) => {
                self.genuine += 1;
                self.false_positives += u64::from(is_suspected);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Slice) {
        let Slice { all, declined, step_ups, suspected, fraud, caught, genuine, false_positives } = other;
        self.all.merge(all);
        self.declined.merge(declined);
        self.step_ups.merge(step_ups);
        self.suspected += suspected;
        self.fraud.merge(fraud);
        self.caught.merge(caught);
        self.genuine += genuine;
        self.false_positives += false_positives;
    }

    /// Declined or asked to step up.
    pub(super) fn against(&self) -> Volume {
        let mut against = self.declined.clone();
        against.merge(&self.step_ups);
        against
    }

    /// Decisions of which it is known what they were.
    pub(super) fn labelled(&self) -> u64 {
        self.fraud.count + self.genuine
    }

    /// Share of fraud among what was declined or asked to step up for suspicion and is known; absent where nothing is.
    pub(super) fn precision(&self) -> Option<f64> {
        share(self.caught.count, self.caught.count + self.false_positives)
    }

    /// Share of the fraud that was caught; absent where there is none.
    pub(super) fn recall(&self) -> Option<f64> {
        share(self.caught.count, self.fraud.count)
    }

    /// Share of the genuine transactions that were declined or asked to step up for suspicion; absent where there is none.
    pub(super) fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_positives, self.genuine)
    }
}

pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
