//! What a replay is counted into.
//!
//! Only a row with a label says whether a decline was right. A fraud counts as caught where rules, lists or model
//! declined it or asked to step up; what credit or status stopped is not their merit.

use std::collections::BTreeMap;

use super::{
    episodes::Episodes,
    slices::Slices,
    thresholds::Thresholds,
    voices::{Heard, Spoke, Voices},
    volume::{Row, Slice, Volume, Yield},
};
use crate::{
    engine::backtest::{Backtest, Replayed},
    model::quality::Quality,
    observe::{ReasonGroup, RuleGroups},
    rules::RuleSet,
    types::{
        auth::{AuthAnswer, AuthRequest},
        codes::Decision,
        ids::AccountId,
        money::Money,
    },
};

/// One request of history.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) request: &'a AuthRequest,
    /// Absent where none is known.
    pub(super) account: Option<AccountId>,
    pub(super) is_fraud: Option<bool>,
}

/// What was decided on one row, or why nothing was, and what the decision code told of it.
pub(super) type Decided = (Result<(AuthAnswer, Replayed), String>, Heard);

/// What a reason decided.
#[derive(Clone, Default, Debug)]
pub(super) struct ReasonFigures {
    /// Where it was the deciding one.
    pub(super) decided: Yield,
    /// Where nothing else spoke against the transaction; of reasons that are no suspicion of fraud, nothing.
    pub(super) alone: Yield,
    pub(super) is_suspicion: bool,
}

/// The counts of a replay.
pub(super) struct Figures {
    groups: RuleGroups,
    pub(super) decisions: BTreeMap<Decision, Volume>,
    /// All decisions.
    pub(super) whole: Slice,
    pub(super) slices: Slices,
    /// Declines and step-ups by the code of the deciding reason.
    pub(super) reasons: BTreeMap<String, ReasonFigures>,
    pub(super) voices: Voices,
    pub(super) episodes: Episodes,
    pub(super) thresholds: Thresholds,
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
    /// For what this engine decides.
    pub(super) fn new(backtest: &Backtest) -> Figures {
        let rules = backtest.rules();
        Figures {
            groups: groups_of(rules),
            decisions: BTreeMap::new(),
            whole: Slice::default(),
            slices: Slices::default(),
            reasons: BTreeMap::new(),
            voices: Voices::new(rules, backtest.model().map(|model| model.decline_threshold())),
            episodes: Episodes::default(),
            thresholds: Thresholds::default(),
            repeated: 0,
            duplicates: 0,
            undecided: 0,
            undecided_why: None,
            margins: Vec::new(),
            is_fraud: Vec::new(),
        }
    }

    /// Counts one row. A repeat is no decision; a duplicate is one, but says nothing of the transaction.
    pub(super) fn count(&mut self, past: &Past<'_>, (decided, heard): &Decided) {
        let billed = past.request.billed();
        let (answer, is_fraud) = match decided {
            Err(why) => {
                self.undecided += 1;
                self.undecided_why.get_or_insert_with(|| why.clone());
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
            Ok((answer, Replayed::Decided)) => (answer, past.is_fraud),
        };
        let row = row_of(answer, billed, is_fraud, &self.groups);
        let reason = answer.reasons.first().filter(|_| row.is_against());
        self.decisions.entry(answer.decision).or_default().add(billed);
        self.whole.add(&row);
        self.slices.add(past.request, answer.decided_at, &row);
        let spoke = self.voices.add(heard, answer, &row);
        if let Some(reason) = reason {
            let figures = match self.reasons.get_mut(&*reason.code) {
                Some(figures) => figures,
                None => self.reasons.entry(reason.code.to_string()).or_default(),
            };
            figures.decided.add(billed, is_fraud);
            figures.is_suspicion |= row.is_suspected;
            if row.is_suspected && spoke == Spoke::OneReason {
                figures.alone.add(billed, is_fraud);
            }
        }
        let Some(is_fraud) = is_fraud else { return };
        if let Some(account) = past.account {
            self.episodes.add(account, answer.decided_at, &row);
        }
        if let Some(margin) = answer.margin {
            self.margins.push(margin);
            self.is_fraud.push(is_fraud);
            self.thresholds.add(answer.score, is_fraud);
        }
    }

    /// How well the model's margin tells fraud from the rest; absent without a model, or without both kinds of label.
    pub(super) fn quality(&self) -> Option<Quality> {
        Quality::measure(&self.margins, &self.is_fraud, 1.0)
    }

    /// Decisions of which nobody said what they were.
    pub(super) fn unlabelled(&self) -> u64 {
        self.whole.all.count - self.whole.labelled()
    }

    pub(super) fn decided(&self) -> u64 {
        self.whole.all.count
    }

    /// The reasons that decided, the most frequent first.
    pub(super) fn reasons_by_count(&self) -> Vec<(&str, &ReasonFigures)> {
        let mut reasons: Vec<_> =
            self.reasons.iter().map(|(code, figures)| (code.as_str(), figures)).collect();
        reasons.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.decided.all.count));
        reasons
    }
}

/// To which group the reasons of a file's rules belong.
pub(super) fn groups_of(rules: &RuleSet) -> RuleGroups {
    RuleGroups::new(rules.rules.iter().map(|rule| (&*rule.reason, &*rule.group)))
}

/// A decision as it is counted.
pub(super) fn row_of(
    answer: &AuthAnswer,
    billed: Option<Money>,
    is_fraud: Option<bool>,
    groups: &RuleGroups,
) -> Row {
    let reason = answer.reasons.first().filter(|_| is_against(answer.decision));
    let is_suspected =
        reason.is_some_and(|reason| ReasonGroup::of(reason.source, &reason.code, groups).suspects_fraud());
    let is = |decision| answer.decision == decision;
    let (is_declined, is_step_up) = (is(Decision::Declined), is(Decision::StepUp));
    Row { billed, is_fraud, is_declined, is_step_up, is_suspected }
}

/// Whether the cardholder did not get what was asked for.
pub(super) fn is_against(decision: Decision) -> bool {
    matches!(decision, Decision::Declined | Decision::StepUp)
}
