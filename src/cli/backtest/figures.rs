//! What a replay is counted into: decisions, deciding reasons, rules, and the model's margins beside the labels.
//!
//! Only a row with a label says whether a decline was right. A fraud counts as caught where rules or model declined
//! or stepped up; what credit or status stopped is not their merit.

use std::collections::BTreeMap;

use crate::{
    authorise::{self, Watch},
    engine::backtest::Replayed,
    history::Transaction,
    model::quality::Quality,
    observe::{ReasonGroup, RuleGroups},
    rules::{Hits, RuleSet},
    types::{
        auth::AuthAnswer,
        codes::Decision,
        fault::Fault,
        money::{Currency, Money},
    },
};

/// A number of transactions and what they come to.
#[derive(Clone, Default, Debug)]
pub(super) struct Volume {
    pub(super) count: u64,
    /// Minor units by currency. Transactions without an amount are in none.
    pub(super) minor: BTreeMap<Currency, i128>,
}

impl Volume {
    fn add(&mut self, billed: Option<Money>) {
        self.count += 1;
        if let Some(Money { minor, currency }) = billed {
            *self.minor.entry(currency).or_default() += i128::from(minor);
        }
    }
}

/// What a reason decided, or a rule fired on.
#[derive(Clone, Default, Debug)]
pub(super) struct Yield {
    pub(super) all: Volume,
    /// Of them known as fraud.
    pub(super) fraud: Volume,
    /// Of them known as genuine: false positives.
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
        let known = self.fraud.count + self.genuine;
        (known > 0).then(|| self.fraud.count as f64 / known as f64)
    }
}

/// What the decision code tells of one decision.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) hits: Hits,
}

impl Watch for Seen {
    fn decided(&mut self, seen: &authorise::Seen<'_>) {
        self.hits = *seen.hits;
    }
}

/// The counts of a replay.
pub(super) struct Figures {
    groups: RuleGroups,
    pub(super) decisions: BTreeMap<Decision, Volume>,
    /// Declines and step-ups by the code of the deciding reason.
    pub(super) reasons: BTreeMap<String, Yield>,
    /// In the order of the rules file.
    pub(super) rules: Vec<Yield>,
    /// Decided rows with a label.
    pub(super) labelled: Yield,
    /// Of them declined or stepped up by rules or model.
    pub(super) suspected: Yield,
    /// Keys that came again with the same body, and with another.
    pub(super) repeated: u64,
    pub(super) duplicates: u64,
    /// Rows on which nothing was decided, and why the first of them was not.
    pub(super) undecided: u64,
    pub(super) undecided_why: Option<String>,
    margins: Vec<f64>,
    is_fraud: Vec<bool>,
}

impl Figures {
    pub(super) fn new(rules: &RuleSet) -> Figures {
        Figures {
            groups: RuleGroups::new(rules.rules.iter().map(|rule| (&*rule.reason, &*rule.group))),
            decisions: BTreeMap::new(),
            reasons: BTreeMap::new(),
            rules: vec![Yield::default(); rules.rules.len()],
            labelled: Yield::default(),
            suspected: Yield::default(),
            repeated: 0,
            duplicates: 0,
            undecided: 0,
            undecided_why: None,
            margins: Vec::new(),
            is_fraud: Vec::new(),
        }
    }

    /// Counts one row. A repeat is no decision; a duplicate is one, but says nothing of the transaction.
    pub(super) fn count(
        &mut self,
        transaction: &Transaction,
        replayed: &Result<(AuthAnswer, Replayed), Fault>,
        seen: &Seen,
    ) {
        let billed = transaction.request.billed();
        let (answer, is_fraud) = match replayed {
            Err(fault) => {
                self.undecided += 1;
                self.undecided_why.get_or_insert_with(|| fault.to_string());
                return;
            }
            Ok((_, Replayed::Repeated)) => {
                self.repeated += 1;
                return;
            }
            Ok((answer, Replayed::Duplicate)) => {
                self.duplicates += 1;
                (answer, None)
            }
            Ok((answer, Replayed::Decided)) => (answer, transaction.label.map(|label| label.is_fraud)),
        };
        self.decisions.entry(answer.decision).or_default().add(billed);
        let reason = answer.reasons.first().filter(|_| is_against(answer.decision));
        if let Some(reason) = reason {
            self.reasons.entry(reason.code.to_string()).or_default().add(billed, is_fraud);
        }
        for rule in seen.hits.fired() {
            self.rules[rule].add(billed, is_fraud);
        }
        if is_fraud.is_some() {
            self.labelled.add(billed, is_fraud);
            let group = reason.map(|reason| ReasonGroup::of(reason.source, &reason.code, &self.groups));
            if group.is_some_and(ReasonGroup::suspects_fraud) {
                self.suspected.add(billed, is_fraud);
            }
        }
        if let (Some(margin), Some(is_fraud)) = (answer.margin, is_fraud) {
            self.margins.push(margin);
            self.is_fraud.push(is_fraud);
        }
    }

    /// How well the model's margin tells fraud from the rest; absent without a model, or without both kinds of label.
    pub(super) fn quality(&self) -> Option<Quality> {
        Quality::measure(&self.margins, &self.is_fraud)
    }

    pub(super) fn decided(&self) -> u64 {
        self.decisions.values().map(|volume| volume.count).sum()
    }
}

/// Whether the cardholder did not get what was asked for.
pub(super) fn is_against(decision: Decision) -> bool {
    matches!(decision, Decision::Declined | Decision::StepUp)
}
