//! When a rule does harm, and when it does its work.
//!
//! A rule is set to shadow only where all of this holds: it is live and not protected; its text, its lists or its
//! rollout are not what they were a day ago; its share of declines lies far above what it was before; and those declines
//! are spread over otherwise good accounts: many of them, few declines each, no account, merchant, device or IP address
//! with a fifth, and scores that are not half of what the model declines. Scores are compared with the model's own measure
//! and not with what is approved, which an attack that goes on for an hour is part of. An attack brings its own
//! merchants, devices or scores, and a rule that was there before; in doubt the guard tells, and the rule stays live.
//!
//! The lists of a rule are those of the rules' text. What calls and label policies add to a list while the engine serves is
//! no change here: frauds fill lists, and somebody who provokes some must not thereby open a rule to being demoted.
//!
//! Time is an argument, and everything kept is bounded. Deliberately absent: what is done about a verdict.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::lineage::Change;
use crate::{
    config,
    limits::RULES_MAX,
    types::time::{MINUTE_MS, SECOND_MS, Timestamp},
};

/// Between two verdicts.
const EVERY_MS: i64 = 5 * SECOND_MS;
/// The last declines of a rule that are looked at one by one; all are counted.
const RECENT_MAX: usize = 4_096;
/// Decisions from which on a share is known.
const KNOWN_FROM: u64 = 1_000;
/// Declines of one account, in the mean, above which somebody hammers at it.
const DECLINES_PER_ACCOUNT_MAX: usize = 2;
/// How long a rule is looked at before it is set to shadow: a few cards look like many until they come again.
const LOOKED_AT_MS: i64 = 20 * SECOND_MS;
/// A rule that goes on is told of again after so long.
const TOLD_AGAIN_MS: i64 = 15 * MINUTE_MS;
/// At this many decisions the past counts half.
const PAST_MAX: u64 = 10_000_000;

/// A decision against a cardholder that a live rule made. 0 is for what was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct Decline {
    pub time: Timestamp,
    /// Number of the rules' version, and the place of the rule in it.
    pub rules: u32,
    pub rule: u16,
    pub account: u32,
    /// Hashes.
    pub merchant: u64,
    pub device: u64,
    pub ip: u64,
    pub score: Option<u16>,
}

/// A rule of the version that decides.
pub(super) struct Rule {
    pub(super) id: Arc<str>,
    pub(super) meaning: u64,
    pub(super) is_live: bool,
    pub(super) is_protected: bool,
    /// `None` where it is what it was a day ago.
    pub(super) change: Option<Change>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It does harm, as long as it still has this meaning.
    Demote { meaning: u64, why: String },
    /// It declines far more than before, and may well be right.
    Alert { why: String },
}

/// Declines among decisions.
#[derive(Clone, Copy, Default, Debug)]
struct Share {
    declines: u64,
    decided: u64,
}

impl Share {
    fn percent(self) -> f64 {
        100.0 * self.declines as f64 / self.decided.max(1) as f64
    }

    fn add(&mut self, other: Share) {
        self.declines += other.declines;
        self.decided += other.decided;
        if self.decided > PAST_MAX {
            self.declines /= 2;
            self.decided /= 2;
        }
    }
}

/// One rule over time.
struct Watched {
    rule: Rule,
    /// What it did since it is as it is, but for the window.
    past: Share,
    /// What it did before it changed; `None` where the process has not seen it.
    before: Option<Share>,
    /// Declines of this turn, and of those before within the window that had any.
    fresh: u64,
    counted: VecDeque<(Timestamp, u64)>,
    recent: VecDeque<Decline>,
    told_at: Option<Timestamp>,
    /// The meaning with which it was set to shadow. Who sets it live again knows why.
    demoted: Option<u64>,
}

/// What was decided up to a moment.
#[derive(Clone, Copy)]
struct Moment {
    time: Timestamp,
    decided: u64,
}

pub(super) struct Judge {
    bounds: config::Guard,
    rules: HashMap<Arc<str>, Watched>,
    /// Ids by place, of the version that decides and the one before, by number.
    places: [(u32, Vec<Arc<str>>); 2],
    /// Moments within the window, and one before.
    moments: VecDeque<Moment>,
    judged_at: Option<Timestamp>,
}

impl Judge {
    pub(super) fn new(bounds: &config::Guard) -> Judge {
        Judge {
            bounds: bounds.clone(),
            rules: HashMap::new(),
            places: Default::default(),
            moments: VecDeque::new(),
            judged_at: None,
        }
    }

    /// These rules decide, under this number, in the order of their places.
    pub(super) fn rules_are(&mut self, number: u32, rules: impl Iterator<Item = Rule>) {
        let mut ids = Vec::with_capacity(RULES_MAX);
        let mut before = std::mem::take(&mut self.rules);
        for rule in rules {
            ids.push(rule.id.clone());
            let watched = match before.remove(&rule.id) {
                Some(watched) => watched.becomes(rule),
                None => Watched::new(rule),
            };
            self.rules.insert(watched.rule.id.clone(), watched);
        }
        if self.places[0].0 != number {
            let former = std::mem::replace(&mut self.places[0], (number, ids));
            self.places[1] = former;
        }
    }

    pub(super) fn saw(&mut self, decline: Decline) {
        let of_version = self.places.iter().find(|(number, _)| *number == decline.rules);
        let id = of_version.and_then(|(_, ids)| ids.get(usize::from(decline.rule)));
        let Some(watched) = id.and_then(|id| self.rules.get_mut(id)) else { return };
        // A decision of the version before belongs to what the rule was then.
        let changed_at = watched.rule.change.map(|change| change.at);
        if changed_at.is_some_and(|at| decline.time < at) {
            return;
        }
        watched.fresh += 1;
        if watched.recent.len() == RECENT_MAX {
            watched.recent.pop_front();
        }
        watched.recent.push_back(decline);
    }

    /// Sets a rule to shadow again at the next turn, because this one came to nothing.
    pub(super) fn try_again(&mut self, rule: &str) {
        if let Some(watched) = self.rules.get_mut(rule) {
            watched.demoted = None;
        }
    }

    /// Takes in what was decided up to now, and the score at which the model declines, and gives a verdict on the rules
    /// that decline far more than before.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        decided_so_far: u64,
        declines_at: Option<u16>,
    ) -> Vec<(Arc<str>, Verdict)> {
        let window_ms = i64::try_from(self.bounds.window_s).unwrap_or(i64::MAX / SECOND_MS) * SECOND_MS;
        let from = now.plus_ms(-window_ms);
        let last = self.moments.back().copied();
        let decided = last.map_or(0, |last| decided_so_far.saturating_sub(last.decided));
        self.moments.push_back(Moment { time: now, decided: decided_so_far });
        while self.moments.get(1).is_some_and(|second| second.time <= from) {
            self.moments.pop_front();
        }
        for watched in self.rules.values_mut() {
            // Among how many decisions they were that came before the first look is not known.
            let fresh = std::mem::take(&mut watched.fresh) * u64::from(last.is_some());
            watched.past.add(Share { declines: fresh, decided });
            if fresh > 0 {
                watched.counted.push_back((now, fresh));
            }
            while watched.counted.front().is_some_and(|(time, _)| *time < from) {
                watched.counted.pop_front();
            }
            while watched.recent.front().is_some_and(|oldest| oldest.time < from) {
                watched.recent.pop_front();
            }
        }
        if self.judged_at.is_some_and(|at| now.since_ms(at) < EVERY_MS) {
            return Vec::new();
        }
        self.judged_at = Some(now);
        let mut verdicts = Vec::new();
        let moments = &self.moments;
        for (id, watched) in &mut self.rules {
            let found = watched.judge(&self.bounds, moments, now, declines_at);
            verdicts.extend(found.map(|verdict| (id.clone(), verdict)));
        }
        verdicts.sort_by(|(a, _), (b, _)| a.cmp(b));
        verdicts
    }
}

impl Watched {
    fn new(rule: Rule) -> Watched {
        // One that was not live declined nothing.
        let was_not_live = rule.change.is_some_and(|change| !change.was_live);
        Watched {
            before: was_not_live.then(Share::default),
            rule,
            past: Share::default(),
            fresh: 0,
            counted: VecDeque::new(),
            recent: VecDeque::new(),
            told_at: None,
            demoted: None,
        }
    }

    /// The same rule as it is from now on.
    fn becomes(self, rule: Rule) -> Watched {
        if self.rule.meaning == rule.meaning {
            // A day after the change it is no change any more.
            return Watched { rule, ..self };
        }
        let before = match (self.rule.change, rule.change) {
            (_, Some(Change { was_live: false, .. })) => Some(Share::default()),
            // The first change within a day: what it did until now was before.
            (None, Some(_)) => Some(self.past).filter(|past| past.decided >= KNOWN_FROM),
            // Changed once more: the share of a day ago stays the measure.
            (Some(_), Some(_)) => self.before,
            (_, None) => None,
        };
        Watched { before, demoted: self.demoted, ..Watched::new(rule) }
    }

    fn judge(
        &mut self,
        bounds: &config::Guard,
        moments: &VecDeque<Moment>,
        now: Timestamp,
        declines_at: Option<u16>,
    ) -> Option<Verdict> {
        let declines: u64 = self.counted.iter().map(|(_, count)| count).sum();
        let looked_at = self.counted.front().map_or(0, |(first, _)| now.since_ms(*first));
        if !self.rule.is_live || declines < bounds.declines_min || looked_at < LOOKED_AT_MS {
            return None;
        }
        let decided = self.window(moments)?;
        // Declines and decisions are not counted at the very same moments; where most are missing, neither is known.
        if decided.saturating_mul(10) < declines * 9 {
            return None;
        }
        let share = Share { declines, decided: decided.max(declines) };
        let before = self.percent_before(bounds, share);
        let at_least = (bounds.share_min_percent as f64).max(bounds.rise as f64 * before);
        if share.percent() < at_least {
            return None;
        }
        let spread = Spread::of(&self.recent);
        let what = format!(
            "it declined {:.1} % of {} authorisations, {before:.1} % before; {} accounts, at most {} % of it from one \
             merchant, device, address or account",
            share.percent(),
            share.decided,
            spread.accounts,
            spread.held_percent,
        );
        match self.left_live(bounds, &spread, declines_at) {
            None => {
                self.demoted = Some(self.rule.meaning);
                Some(Verdict::Demote { meaning: self.rule.meaning, why: what })
            }
            Some(because) => {
                if self.told_at.is_some_and(|at| now.since_ms(at) < TOLD_AGAIN_MS) {
                    return None;
                }
                self.told_at = Some(now);
                Some(Verdict::Alert { why: format!("{what}; left live because {because}") })
            }
        }
    }

    /// Decisions within the window, as far as the rule is as it is.
    fn window(&self, moments: &VecDeque<Moment>) -> Option<u64> {
        let mut from = moments.front()?.time;
        if let Some(change) = self.rule.change {
            from = from.max(change.at);
        }
        let began = moments.iter().rev().find(|moment| moment.time <= from).or(moments.front())?;
        Some(moments.back()?.decided.saturating_sub(began.decided))
    }

    /// The share in percent that is far surpassed where the rule does harm.
    fn percent_before(&self, bounds: &config::Guard, window: Share) -> f64 {
        let unknown = bounds.share_min_percent as f64;
        match (self.rule.change, self.before) {
            (Some(_), Some(before)) => before.percent(),
            // It was live and is new to this process: as if it had declined as much as a rule may.
            (Some(_), None) => unknown,
            (None, _) => {
                let past = Share {
                    declines: self.past.declines.saturating_sub(window.declines),
                    decided: self.past.decided.saturating_sub(window.decided),
                };
                // A rule that is what it was is not spoken of for what it may always have done.
                if past.decided >= KNOWN_FROM { past.percent() } else { f64::INFINITY }
            }
        }
    }

    /// Why it is not set to shadow; `None` where nothing speaks for it.
    fn left_live(&self, bounds: &config::Guard, spread: &Spread, declines_at: Option<u16>) -> Option<String> {
        let declines = self.recent.len();
        if self.rule.is_protected {
            return Some("it is protected".into());
        }
        if self.rule.change.is_none() {
            return Some("it is what it was a day ago".into());
        }
        if self.demoted == Some(self.rule.meaning) {
            return Some("it was set to shadow before and somebody set it live again".into());
        }
        if spread.accounts < bounds.accounts_min as usize {
            return Some(format!("fewer than {} accounts are concerned", bounds.accounts_min));
        }
        if declines > DECLINES_PER_ACCOUNT_MAX * spread.accounts {
            return Some("the same accounts are tried again and again".into());
        }
        if spread.held_percent >= bounds.holder_max_percent {
            return Some(format!("one {} has {} % of it", spread.holder, spread.held_percent));
        }
        let Some(declines_at) = declines_at else {
            return Some("no model says how it is scored".into());
        };
        let scored = self.recent.iter().filter(|decline| decline.score.is_some()).count();
        if 2 * scored < declines {
            return Some("most of it has no score".into());
        }
        let is_high = |decline: &&Decline| decline.score.is_some_and(|score| score >= declines_at / 2);
        let high_percent = percent(self.recent.iter().filter(is_high).count(), scored);
        if high_percent > bounds.high_scores_max_percent {
            return Some(format!("{high_percent} % of it has half the score at which the model declines"));
        }
        None
    }
}

/// How the declines of a rule are spread.
struct Spread {
    accounts: usize,
    /// Of all declines, the largest part that has one account, merchant, device or address.
    held_percent: u64,
    holder: &'static str,
}

impl Spread {
    fn of(declines: &VecDeque<Decline>) -> Spread {
        let largest = |of: fn(&Decline) -> u64| {
            let mut counts: HashMap<u64, usize> = HashMap::new();
            for decline in declines.iter().filter(|decline| of(decline) != 0) {
                *counts.entry(of(decline)).or_default() += 1;
            }
            (percent(counts.values().copied().max().unwrap_or(0), declines.len()), counts.len())
        };
        // An account's place may be 0; what was not sent is.
        let (by_account, accounts) = largest(|decline| u64::from(decline.account) + 1);
        let parts = [
            (largest(|decline| decline.merchant).0, "merchant"),
            (largest(|decline| decline.device).0, "device"),
            (largest(|decline| decline.ip).0, "IP address"),
            (by_account, "account"),
        ];
        let (held_percent, holder) = parts.into_iter().max_by_key(|(held, _)| *held).unwrap_or_default();
        Spread { accounts, held_percent, holder }
    }
}

fn percent(part: usize, of: usize) -> u64 {
    (100 * part / of.max(1)) as u64
}

#[cfg(test)]
mod tests;
