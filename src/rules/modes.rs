//! Which of the rules that fired decide: a live rule may decide for a share of the cards alone, and be suppressed for
//! a card or a merchant until a time, and waits until all that it reads is filled. Where it does not decide it counts as
//! in shadow.
//!
//! Costs a decision nothing where no rule is so restricted, and no allocation where one is.

use super::{Hits, Mode, Rule, RuleSet, ones, trailer::ModeSet};
use crate::{
    features::{
        catalog::slot,
        event::id_hash,
        values::{Slot, Values},
    },
    types::time::Timestamp,
};

/// What a rule can be suppressed for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entity {
    Card,
    Account,
    Merchant,
    Device,
    Ip,
    Terminal,
}

impl Entity {
    pub const ALL: [Entity; 6] =
        [Entity::Card, Entity::Account, Entity::Merchant, Entity::Device, Entity::Ip, Entity::Terminal];

    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Entity::Card => "card",
            Entity::Account => "account",
            Entity::Merchant => "merchant",
            Entity::Device => "device",
            Entity::Ip => "ip",
            Entity::Terminal => "terminal",
        }
    }

    fn slot(self) -> Slot {
        match self {
            Entity::Card => slot::CARD_TOKEN,
            Entity::Account => slot::ACCOUNT_ID,
            Entity::Merchant => slot::MERCHANT_ID,
            Entity::Device => slot::DEVICE_ID,
            Entity::Ip => slot::DEVICE_IP,
            Entity::Terminal => slot::TERMINAL_ID,
        }
    }
}

/// One entity for which a rule is suppressed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppression {
    pub entity: Entity,
    pub id: Box<str>,
    /// The first moment at which the rule decides again.
    pub until: Timestamp,
}

/// A live rule that does not decide for everybody.
#[derive(Clone, Debug)]
pub(super) struct Restricted {
    rule: u16,
    /// 1 to 99; `None` where it decides for all cards.
    live_percent: Option<u8>,
    salt: u64,
    /// Sorted by entity and id, each once.
    suppressions: Box<[Suppression]>,
}

impl Restricted {
    /// `None` where the rule decides for everybody.
    pub(super) fn new(
        rule: u16,
        id: &str,
        live_percent: Option<u8>,
        mut suppressions: Vec<Suppression>,
    ) -> Option<Restricted> {
        // The latest end of one entity comes first, and is the one that is kept.
        suppressions.sort_by(|a, b| (a.entity, &a.id, b.until).cmp(&(b.entity, &b.id, a.until)));
        suppressions.dedup_by(|later, first| (later.entity, &later.id) == (first.entity, &first.id));
        let restricts = live_percent.is_some() || !suppressions.is_empty();
        let suppressions = suppressions.into_boxed_slice();
        restricts.then(|| Restricted { rule, live_percent, salt: id_hash(id), suppressions })
    }

    fn is_suppressed(&self, values: &Values<'_>, now: Timestamp) -> bool {
        !self.suppressions.is_empty()
            && Entity::ALL.into_iter().any(|entity| {
                values.text(entity.slot()).is_some_and(|id| {
                    let order = |known: &Suppression| (known.entity, &*known.id).cmp(&(entity, id));
                    let found = self.suppressions.binary_search_by(order);
                    found.is_ok_and(|place| now < self.suppressions[place].until)
                })
            })
    }

    fn is_in_share(&self, values: &Values<'_>) -> bool {
        self.live_percent.is_none_or(|percent| {
            let card = values.text(slot::CARD_TOKEN).or_else(|| values.text(slot::ACCOUNT_ID));
            percentile(card.unwrap_or(""), self.salt) < percent
        })
    }
}

/// A card's place from 0 to 99 among all cards, another for every salt: the finaliser of SplitMix64 (Steele, Lea,
/// Flood) over the fixed hash of its token. It must never change: a rule that is live for some cards is so for the same
/// ones in every version and on every machine.
fn percentile(card: &str, salt: u64) -> u8 {
    let mut mixed = id_hash(card) ^ salt;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (((mixed >> 32) * 100) >> 32) as u8
}

impl RuleSet {
    /// Notes which of the live rules that fired do not decide here: those that are live for other cards, and those
    /// suppressed at this moment. Follows [`RuleSet::evaluate`]; without it all live rules decide for everybody.
    pub fn restrict(&self, values: &Values<'_>, now: Timestamp, hits: &mut Hits) {
        for restricted in &self.restricted {
            let rule = usize::from(restricted.rule);
            if !hits.is_fired(rule) {
                continue;
            }
            let (word, bit) = (rule / 64, 1 << (rule % 64));
            if restricted.is_suppressed(values, now) {
                hits.suppressed[word] |= bit;
            } else if !restricted.is_in_share(values) {
                hits.not_here[word] |= bit;
            }
        }
    }

    /// Notes which of the live rules that fired are suppressed at this moment, and leaves aside for which share of the cards
    /// they are live.
    pub(super) fn suppress(&self, values: &Values<'_>, now: Timestamp, hits: &mut Hits) {
        for restricted in &self.restricted {
            let rule = usize::from(restricted.rule);
            if hits.is_fired(rule) && restricted.is_suppressed(values, now) {
                hits.suppressed[rule / 64] |= 1 << (rule % 64);
            }
        }
    }

    /// Notes that rules that fired do not decide where they read an aggregate that is still being filled; `unfilled` has one
    /// bit for each of the file's aggregates.
    pub fn hold_back(&self, unfilled: u64, hits: &mut Hits) {
        if unfilled == 0 {
            return;
        }
        for rule in ones(hits.fired).filter(|rule| self.rules[*rule].aggregates & unfilled != 0) {
            hits.unfilled[rule / 64] |= 1 << (rule % 64);
        }
    }

    /// The aggregates that these rules read, one bit for each place in the file.
    pub fn aggregates_read_by(&self, rules: &[u16]) -> u64 {
        let read = rules.iter().filter_map(|rule| self.rules.get(usize::from(*rule)));
        read.fold(0, |all, rule| all | rule.aggregates)
    }

    /// Whether a rule may run as in shadow: always, for some cards, while it is suppressed, or until the windows that it
    /// reads beside the account's own are filled.
    pub fn may_run_in_shadow(&self, rule: usize) -> bool {
        let Rule { mode, aggregates, .. } = self.rules[rule];
        let is_restricted = || self.restricted.iter().any(|restricted| usize::from(restricted.rule) == rule);
        let crosses = |place: usize| aggregates & 1 << place != 0 && self.aggregates[place].is_shared();
        match mode {
            Mode::Shadow => true,
            Mode::Live => is_restricted() || (0..self.aggregates.len()).any(crosses),
            Mode::Off => false,
        }
    }

    /// Whether a rule that fired decides; otherwise it counts as in shadow.
    pub fn decides(&self, rule: usize, hits: &Hits) -> bool {
        self.rules[rule].mode == Mode::Live && !hits.is_held_back(rule)
    }

    /// The place of the rule that speaks first against an authorisation.
    pub fn decisive(&self, hits: &Hits) -> Option<u16> {
        self.precedence.iter().copied().find(|rule| {
            let rule = usize::from(*rule);
            hits.is_fired(rule) && self.decides(rule, hits) && self.rules[rule].response_code.is_some()
        })
    }

    /// The text under which a rule has another mode; `None` where it has that mode already. Setting the mode that the
    /// file says takes away what was set before.
    pub fn with_mode(&self, rule: usize, mode: Mode, set: impl FnOnce() -> ModeSet) -> Option<String> {
        let rule = &self.rules[rule];
        if rule.mode == mode {
            return None;
        }
        let others = self.modes.iter().filter(|other| other.rule != rule.id).cloned();
        let modes: Vec<ModeSet> = others.chain((rule.mode_in_file() != mode).then(set)).collect();
        Some(super::trailer::with_modes(&self.source, &modes))
    }

    /// The text of these rules with the modes that calls had set under the rules `before`, as far as the rules are still
    /// there and their file does not say the same; `None` where that is their text as it is. Where both set a mode, the
    /// later one counts.
    pub fn with_modes_of(&self, before: &[ModeSet]) -> Option<String> {
        let of_rule = |sets: &[ModeSet], id: &str| sets.iter().find(|set| *set.rule == *id).cloned();
        let (mut modes, mut is_carried) = (Vec::new(), false);
        for rule in &self.rules {
            let own = of_rule(&self.modes, &rule.id);
            let carried = of_rule(before, &rule.id)
                .filter(|set| set.mode != rule.mode_in_file())
                .filter(|set| own.as_ref().is_none_or(|own| set.since > own.since));
            is_carried |= carried.is_some();
            modes.extend(carried.or(own));
        }
        is_carried.then(|| super::trailer::with_modes(&self.source, &modes))
    }
}
