//! What is counted of rules: hits, and for those in shadow what they would have added to the decisions that were made.
//!
//! A rule that is live for some cards, or suppressed for one, counts where it decides as live and elsewhere as in shadow.
//! Deliberately absent: whether what a rule in shadow caught was fraud. That is known once labels arrive, weeks later, and
//! needs a place of its own beside [`ShadowOutcome`]: a catch that a label turns into a false positive.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use super::{
    group::{ReasonGroup, RuleGroups},
    lanes::{Cells, response_code_label},
    metrics as table,
    recorder::Registry,
};
use crate::{
    limits::RULES_MAX,
    types::{
        codes::{ReasonSource, ResponseCode},
        money::{Currency, Money},
    },
};

/// Rules that one process may name in its series; beyond it they are counted under the rule `other`.
pub(super) const RULE_SERIES_MAX: usize = 4 * RULES_MAX;
/// Currencies in which the amounts of one set of rules are counted: the first that come.
const CURRENCIES: usize = 8;

/// The cells of one rule.
const LIVE: usize = 0;
const SHADOW: usize = 1;
const UNKNOWN: usize = 2;
const SUPPRESSED: usize = 3;
const CAUGHT_ALONE: usize = 4;
const OVERLAPS: usize = 5;
const AMOUNTS: usize = 6;
const CELLS: usize = AMOUNTS + CURRENCIES;

/// What the figures need to know of a rule.
#[derive(Clone, Copy, Debug)]
pub struct LoadedRule<'a> {
    pub id: &'a str,
    /// `live`, `shadow` or `off`.
    pub mode: &'static str,
    pub may_run_in_shadow: bool,
    /// What it may answer with.
    pub response_code: Option<ResponseCode>,
    /// Its reason code.
    pub reason: &'a str,
    /// What it counts as.
    pub group: &'a str,
    /// Estimated time of one evaluation.
    pub cost_ns: u32,
}

/// How a rule in shadow that would have spoken against an authorisation stood to what was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShadowOutcome {
    /// Nothing live spoke against it; what would have been declined, in the account's currency.
    Alone(Option<Money>),
    /// It was decided against the cardholder anyway.
    Overlap,
}

/// Hits of one set of rules, by lane. Kept beside the compiled rules, so that a decision counts the rules it used.
#[derive(Clone)]
pub struct RuleCounts(Arc<RuleCells>);

struct RuleCells {
    lanes: Box<[Cells]>,
    groups: RuleGroups,
    /// Numeric codes of the currencies that have come, each at its place for ever; 0 is free.
    currencies: [AtomicU16; CURRENCIES],
}

impl RuleCounts {
    pub(super) fn new(lanes: usize, rules: &[LoadedRule<'_>]) -> RuleCounts {
        RuleCounts(Arc::new(RuleCells {
            lanes: (0..lanes).map(|_| Cells::new(CELLS * rules.len())).collect(),
            groups: RuleGroups::new(rules.iter().map(|rule| (rule.reason, rule.group))),
            currencies: Default::default(),
        }))
    }

    /// The rule at this place of the set fired and decides.
    pub fn hit(&self, lane: usize, rule: usize) {
        self.add(lane, rule, LIVE, 1);
    }

    /// The rule at this place of the set fired in shadow.
    pub fn hit_in_shadow(&self, lane: usize, rule: usize) {
        self.add(lane, rule, SHADOW, 1);
    }

    /// The rule is in shadow here because it is suppressed for somebody.
    pub fn suppressed(&self, lane: usize, rule: usize) {
        self.add(lane, rule, SUPPRESSED, 1);
    }

    /// The rule fired in shadow and would have spoken against the authorisation.
    pub fn would_have_declined(&self, lane: usize, rule: usize, outcome: ShadowOutcome) {
        match outcome {
            ShadowOutcome::Overlap => self.add(lane, rule, OVERLAPS, 1),
            ShadowOutcome::Alone(amount) => {
                self.add(lane, rule, CAUGHT_ALONE, 1);
                if let Some((place, minor)) = amount.and_then(|money| {
                    Some((self.0.place_of(money.currency)?, u64::try_from(money.minor).ok()?))
                }) {
                    self.add(lane, rule, AMOUNTS + place, minor);
                }
            }
        }
    }

    /// The rule at this place of the set could not be told for want of a value.
    pub fn unknown(&self, lane: usize, rule: usize) {
        self.add(lane, rule, UNKNOWN, 1);
    }

    /// The group of a reason that came from here.
    pub fn group_of(&self, source: ReasonSource, code: &str) -> ReasonGroup {
        ReasonGroup::of(source, code, &self.0.groups)
    }

    fn add(&self, lane: usize, rule: usize, cell: usize, amount: u64) {
        self.0.lanes[lane % self.0.lanes.len()].add(CELLS * rule + cell, amount);
    }
}

impl RuleCells {
    /// The place of a currency, taken where it is new; `None` where all are taken.
    fn place_of(&self, currency: Currency) -> Option<usize> {
        let code = currency.numeric();
        self.currencies.iter().position(|place| {
            let taken = place.compare_exchange(0, code, Relaxed, Relaxed);
            taken.is_ok_and(|free| free == 0) || taken.is_err_and(|known| known == code)
        })
    }

    fn total(&self, index: usize) -> u64 {
        self.lanes.iter().map(|lane| lane.get(index)).sum()
    }
}

/// Shows as 0 what a rule may count, so that its first rise is seen as one. Amounts are left out: which currencies come
/// is not known before they do.
fn expect(registry: &Registry, name: &str, rule: &LoadedRule<'_>) {
    let expect = |family, labels: &[&str]| drop(registry.counter(family, labels));
    expect(&table::RULE_HITS, &[name, rule.mode]);
    expect(&table::RULE_UNKNOWNS, &[name, rule.mode]);
    if rule.mode == "live" {
        expect(&table::RULE_SUPPRESSED, &[name]);
        expect(&table::GUARD_VERDICTS, &[name, "demoted"]);
        expect(&table::GUARD_VERDICTS, &[name, "alerted"]);
    }
    if rule.may_run_in_shadow {
        expect(&table::RULE_HITS, &[name, "shadow"]);
        expect(&table::RULE_SHADOW_OUTCOMES, &[name, "alone"]);
        expect(&table::RULE_SHADOW_OUTCOMES, &[name, "overlap"]);
    }
    if let Some(code) = rule.response_code {
        expect(&table::RESPONSE_CODES, &[&response_code_label(code)]);
    }
}

/// The sets of rules that are still in use, and what of their counts was passed on to the series.
#[derive(Default)]
pub(super) struct RuleSeries {
    sets: Vec<Counted>,
    /// Bounded, so that reloads cannot grow it for ever.
    named: HashSet<String>,
}

struct Counted {
    counts: RuleCounts,
    /// Name in the series, and mode.
    rules: Vec<(String, &'static str)>,
    passed_on: Vec<u64>,
}

impl RuleSeries {
    /// From now on these rules are counted too.
    pub(super) fn load(&mut self, registry: &Registry, counts: RuleCounts, rules: &[LoadedRule<'_>]) {
        // Sets that no decision uses any more go here too, since nobody may ever scrape.
        self.gather(registry);
        let named = |rule: &LoadedRule<'_>| {
            let name = self.name_of(rule.id);
            expect(registry, &name, rule);
            (name, rule.mode)
        };
        let rules: Vec<(String, &'static str)> = rules.iter().map(named).collect();
        let passed_on = vec![0; CELLS * rules.len()];
        self.sets.push(Counted { counts, rules, passed_on });
    }

    /// Passes on what was counted since the last time. A set that nobody else holds any more is dropped after its last
    /// counts were passed on.
    pub(super) fn gather(&mut self, registry: &Registry) {
        self.sets.retain_mut(|set| {
            let cells = &set.counts.0;
            let in_use = Arc::strong_count(cells) > 1;
            for (place, (rule, mode)) in set.rules.iter().enumerate() {
                for cell in 0..CELLS {
                    let now = cells.total(CELLS * place + cell);
                    let before = std::mem::replace(&mut set.passed_on[CELLS * place + cell], now);
                    if now == before {
                        continue;
                    }
                    let (family, second) = match cell {
                        LIVE => (&table::RULE_HITS, Some("live")),
                        SHADOW => (&table::RULE_HITS, Some("shadow")),
                        UNKNOWN => (&table::RULE_UNKNOWNS, Some(*mode)),
                        SUPPRESSED => (&table::RULE_SUPPRESSED, None),
                        CAUGHT_ALONE => (&table::RULE_SHADOW_OUTCOMES, Some("alone")),
                        OVERLAPS => (&table::RULE_SHADOW_OUTCOMES, Some("overlap")),
                        amount => {
                            let code = cells.currencies[amount - AMOUNTS].load(Relaxed);
                            let currency = Currency::from_numeric(code).map_or("", Currency::alpha);
                            (&table::RULE_SHADOW_AMOUNT, Some(currency))
                        }
                    };
                    let labels: Vec<&str> = std::iter::once(rule.as_str()).chain(second).collect();
                    registry.counter(family, &labels).increment(now - before);
                }
            }
            in_use
        });
    }

    /// How many sets are counted.
    #[cfg(test)]
    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// The name of a rule in the series.
    pub(super) fn name_of(&mut self, id: &str) -> String {
        if self.named.len() >= RULE_SERIES_MAX && !self.named.contains(id) {
            return "other".to_owned();
        }
        self.named.insert(id.to_owned());
        id.to_owned()
    }
}
