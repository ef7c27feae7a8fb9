//! Who spoke against a transaction: rules, lists and the model, each alone or with others.

use super::volume::{Row, Yield};
use crate::{
    authorise::Seen,
    features::catalog::MODEL_FEATURES,
    rules::{Effect, Hits, Mode, RuleSet},
    types::{auth::AuthAnswer, codes::ReasonSource, reasons::engine},
};

/// Two of a kind on the same transactions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    pub(super) both: u64,
    /// Of them fraud.
    pub(super) fraud: u64,
}

/// How often each two of a number of things came together.
#[derive(Default)]
pub(super) struct Overlap {
    /// The pairs of the second with the first, of the third with the first and the second, and so on.
    pairs: Vec<Pair>,
}

impl Overlap {
    fn at(a: usize, b: usize) -> usize {
        let (low, high) = (a.min(b), a.max(b));
        high * high.saturating_sub(1) / 2 + low
    }

    /// `present` are the places of those that came, ascending.
    fn add(&mut self, present: &[usize], is_fraud: bool) {
        for (nth, high) in present.iter().enumerate().skip(1) {
            for low in &present[..nth] {
                let at = Overlap::at(*low, *high);
                if at >= self.pairs.len() {
                    self.pairs.resize(at + 1, Pair::default());
                }
                self.pairs[at].both += 1;
                self.pairs[at].fraud += u64::from(is_fraud);
            }
        }
    }

    pub(super) fn of(&self, a: usize, b: usize) -> Pair {
        if a == b { Pair::default() } else { self.pairs.get(Overlap::at(a, b)).copied().unwrap_or_default() }
    }

    /// Every pair that came together, with its places, the most frequent first.
    pub(super) fn pairs(&self) -> Vec<(usize, usize, Pair)> {
        let mut pairs = Vec::new();
        let (mut low, mut high) = (0, 1);
        for pair in &self.pairs {
            if pair.both > 0 {
                pairs.push((low, high, *pair));
            }
            low += 1;
            if low == high {
                (low, high) = (0, high + 1);
            }
        }
        pairs.sort_by_key(|(.., pair)| std::cmp::Reverse(pair.both));
        pairs
    }
}

/// What the figures say of a rule or of the model.
#[derive(Clone, Default, Debug)]
pub(super) struct Voice {
    /// Where it fired; of a live rule, where it was to decide as well. Of the model, where its score was at or above its
    /// threshold.
    pub(super) fired: Yield,
    /// Where nothing else spoke against the transaction, so that it would have been approved, or declined for another
    /// reason than suspicion, without it. For a shadow rule: what is not declined, and would be by it.
    pub(super) alone: Yield,
}

/// What a rule is to the figures.
#[derive(Clone, Copy)]
struct Kind {
    /// Place of its reason code.
    reason: usize,
    is_live: bool,
    is_against: bool,
    silences_model: bool,
}

/// Counts who spoke.
pub(super) struct Voices {
    kinds: Vec<Kind>,
    decline_threshold: Option<u16>,
    /// In the order of the rules file; behind them the model, whether or not one scores.
    voices: Vec<Voice>,
    /// Of each rule, where it is live for others alone, or suppressed: it counts as in shadow there.
    held_back: Vec<Voice>,
    pub(super) overlap: Overlap,
    /// Reason codes of the rules in the order of the file, each once; then the model's.
    pub(super) reason_codes: Vec<String>,
    pub(super) reason_overlap: Overlap,
    /// Those that spoke on the present transaction.
    present: Vec<usize>,
    reasons: Vec<usize>,
}

/// Who spoke against one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoke {
    Nobody,
    /// All that spoke have one reason code.
    OneReason,
    Several,
}

impl Voices {
    pub(super) fn new(rules: &RuleSet, decline_threshold: Option<u16>) -> Voices {
        let mut reason_codes: Vec<String> = Vec::new();
        let kinds = rules.rules.iter().map(|rule| {
            let reason = reason_codes.iter().position(|code| **code == *rule.reason).unwrap_or_else(|| {
                reason_codes.push(rule.reason.to_string());
                reason_codes.len() - 1
            });
            Kind {
                reason,
                is_live: rule.mode == Mode::Live,
                is_against: rule.then.response_code().is_some(),
                silences_model: rule.mode == Mode::Live && rule.then == Effect::ApproveDespiteScore,
            }
        });
        let kinds: Vec<_> = kinds.collect();
        reason_codes.push(engine::MODEL_SCORE.code.to_string());
        Voices {
            voices: vec![Voice::default(); kinds.len() + 1],
            held_back: vec![Voice::default(); kinds.len()],
            kinds,
            decline_threshold,
            overlap: Overlap::default(),
            reason_codes,
            reason_overlap: Overlap::default(),
            present: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// One for each rule, in the order of the file.
    pub(super) fn rules(&self) -> &[Voice] {
        &self.voices[..self.kinds.len()]
    }

    /// What a live rule would have done where it is live for other cards, or suppressed; absent where that was nowhere.
    pub(super) fn held_back(&self, rule: usize) -> Option<&Voice> {
        self.held_back.get(rule).filter(|voice| voice.fired.all.count > 0)
    }

    pub(super) fn model(&self) -> &Voice {
        &self.voices[self.kinds.len()]
    }

    /// The model's place in the overlap, behind the rules'.
    pub(super) fn model_place(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn add(&mut self, heard: &Heard, answer: &AuthAnswer, row: &Row) -> Spoke {
        let Row { billed, is_fraud, is_suspected, .. } = *row;
        let is_against = row.is_against();
        self.present.clear();
        self.reasons.clear();
        let mut live_against = 0;
        let mut last = None;
        let mut is_silenced = false;
        for rule in heard.hits.fired() {
            let kind = self.kinds[rule];
            if kind.is_live && heard.hits.is_held_back(rule) {
                self.held_back[rule].fired.add(billed, is_fraud);
                if kind.is_against && !is_against {
                    self.held_back[rule].alone.add(billed, is_fraud);
                }
                continue;
            }
            self.present.push(rule);
            self.voices[rule].fired.add(billed, is_fraud);
            is_silenced |= kind.silences_model;
            if kind.is_live && kind.is_against {
                (live_against, last) = (live_against + 1, Some(rule));
                self.reasons.push(kind.reason);
            } else if kind.is_against && !is_against {
                self.voices[rule].alone.add(billed, is_fraud);
            }
        }
        let model = self.kinds.len();
        let threshold = self.decline_threshold;
        if heard.score.zip(threshold).is_some_and(|(score, threshold)| score >= threshold) {
            self.present.push(model);
            self.voices[model].fired.add(billed, is_fraud);
            if !is_silenced {
                (live_against, last) = (live_against + 1, Some(model));
                self.reasons.push(self.reason_codes.len() - 1);
            }
        }
        let lists = answer.reasons.iter().filter(|reason| reason.source == ReasonSource::List).count();
        if let (Some(only), true) = (last, live_against == 1 && lists == 0 && is_suspected) {
            self.voices[only].alone.add(billed, is_fraud);
        }
        self.reasons.sort_unstable();
        self.reasons.dedup();
        let is_fraud = is_fraud == Some(true);
        self.overlap.add(&self.present, is_fraud);
        self.reason_overlap.add(&self.reasons, is_fraud);
        match self.reasons.len() + lists {
            0 => Spoke::Nobody,
            1 => Spoke::OneReason,
            _ => Spoke::Several,
        }
    }
}

/// What the decision code tells of one decision.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) hits: Hits,
    pub(super) score: Option<u16>,
    /// What was scored.
    pub(super) row: Option<[f32; MODEL_FEATURES]>,
}

impl crate::authorise::Watch for Heard {
    fn decided(&mut self, seen: &Seen<'_>) {
        (self.hits, self.score) = (*seen.hits, seen.score);
        self.row = seen.score.map(|_| *seen.vector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_counted_once_and_found_under_both_orders() {
        let mut overlap = Overlap::default();
        overlap.add(&[0, 2, 5], true);
        overlap.add(&[2, 5], false);
        overlap.add(&[3], true);
        overlap.add(&[], true);
        assert_eq!(overlap.of(5, 2), Pair { both: 2, fraud: 1 });
        assert_eq!(overlap.of(0, 5), Pair { both: 1, fraud: 1 });
        assert_eq!((overlap.of(3, 3), overlap.of(400, 3)), (Pair::default(), Pair::default()));
        let pairs: Vec<_> = overlap.pairs().into_iter().map(|(a, b, pair)| (a, b, pair.both)).collect();
        assert_eq!(pairs, [(2, 5, 2), (0, 2, 1), (0, 5, 1)]);
    }
}
