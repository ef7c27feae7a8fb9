//! The guard: sets to shadow a live rule that was changed within a day and now declines good cardholders, and tells of
//! whatever else declines far more than before. What it looks at and when it keeps its hands off is in [`judge`].
//!
//! It sees the decisions through a bounded queue that no decision waits for, and changes nothing but by
//! [`Engine::set_rule_mode`], as a person would, with its reason in the rules' text. Its memory of shares is that of the
//! process; which rules have changed within a day it knows from the journal.

mod judge;
mod lineage;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

pub(super) use judge::Decline;
use judge::{Judge, Verdict};
use lineage::Meanings;

use super::{Engine, ModeSetter, background::Background, versions};
use crate::{
    journal::{Journal, record::Versioned},
    observe::{GuardVerdict, Metrics},
    rules::{self, Mode},
    types::time::{DAY_MS, MINUTE_MS, Timestamp},
};

/// Declines that may wait for the guard; beyond it they are counted and not seen.
const QUEUE: usize = 16 * 1024;
/// Between two looks at what has come.
const TURN: Duration = Duration::from_secs(1);
/// Rules that did not change become a day old without anything happening.
const LINEAGE_EVERY_MS: i64 = MINUTE_MS;

/// The guard's queue and its thread.
#[derive(Default)]
pub(super) struct Guard {
    queue: OnceLock<SyncSender<Decline>>,
    thread: Background,
}

impl Guard {
    /// A live rule decided against a cardholder. Never waits.
    pub(super) fn saw(&self, metrics: &Metrics, decline: Decline) {
        let Some(queue) = self.queue.get() else { return };
        if queue.try_send(decline).is_err() {
            metrics.guard_missed();
        }
    }

    pub(super) fn stop(&self, journal: &Journal, until: Instant) {
        self.thread.stop(journal, until);
    }
}

/// What the guard's thread keeps from one turn to the next.
struct Watchman {
    declines: Receiver<Decline>,
    judge: Judge,
    /// Of the versions that decided within a day, by number; `None` where a text cannot be read back.
    meanings: HashMap<u32, Option<Arc<Meanings>>>,
    /// Number of the rules that the judge knows, and when it was last told what has changed.
    told: Option<(u32, Timestamp)>,
}

impl Engine {
    /// Starts the guard, where the settings do not switch it off.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start_guard(self: &Arc<Self>) -> io::Result<()> {
        if !self.config.guard.enabled {
            return Ok(());
        }
        let (sender, declines) = mpsc::sync_channel(QUEUE);
        if self.guard.queue.set(sender).is_err() {
            return Ok(());
        }
        let judge = Judge::new(&self.config.guard);
        let mut watchman = Watchman { declines, judge, meanings: HashMap::new(), told: None };
        self.guard.thread.start(self, "saker-guard", TURN, move |engine| {
            watchman.turn(engine);
            TURN
        })
    }
}

impl Watchman {
    fn turn(&mut self, engine: &Engine) {
        let now = engine.now();
        let in_force = engine.in_force.load_full();
        let number = in_force.setup.numbers.rules;
        let is_told = |(told, at): (u32, Timestamp)| told == number && now.since_ms(at) < LINEAGE_EVERY_MS;
        if !self.told.is_some_and(is_told) {
            self.tell(engine, number, now);
            self.told = Some((number, now));
        }
        while let Ok(decline) = self.declines.try_recv() {
            self.judge.saw(decline);
        }
        let declines_at = in_force.setup.model.as_ref().map(|model| model.decline_threshold());
        for (rule, verdict) in self.judge.judge(now, engine.metrics.decided_so_far(), declines_at) {
            self.act(engine, &rule, verdict);
        }
    }

    /// Tells the judge which rules decide, and which of them have changed within a day.
    fn tell(&mut self, engine: &Engine, number: u32, now: Timestamp) {
        let in_force = engine.in_force.load_full();
        let mut decided = engine.names.rules_since_a_day();
        while decided.get(1).is_some_and(|(at, _)| now.since_ms(*at) >= DAY_MS) {
            decided.remove(0);
        }
        // They are introduced a moment before they decide.
        while decided.len() > 1 && decided.last().is_some_and(|(_, last)| *last != number) {
            decided.pop();
        }
        if decided.last().is_none_or(|(_, last)| *last != number) {
            decided.push((now, number));
        }
        self.meanings.retain(|known, _| decided.iter().any(|(_, number)| number == known));
        self.meanings.insert(number, Some(Arc::new(lineage::meanings(&in_force.setup.rules))));
        let meanings = &mut self.meanings;
        let changes = lineage::changes(&decided, &mut |number| {
            meanings.entry(number).or_insert_with(|| kept(engine, number).map(Arc::new)).clone()
        });
        let rules = in_force.setup.rules.rules.iter().map(|rule| judge::Rule {
            id: rule.id.clone(),
            meaning: rule.meaning,
            is_live: rule.mode == Mode::Live,
            is_protected: rule.protected,
            change: changes.get(&rule.id).copied(),
        });
        self.judge.rules_are(number, rules);
    }

    fn act(&mut self, engine: &Engine, rule: &str, verdict: Verdict) {
        let (meaning, why) = match verdict {
            Verdict::Alert { why } => {
                tracing::warn!(
                    rule,
                    why,
                    "a rule declines far more than before, and the guard leaves it live"
                );
                engine.metrics.guard_judged(rule, GuardVerdict::Alerted);
                return;
            }
            Verdict::Demote { meaning, why } => (meaning, why),
        };
        let setter = ModeSetter { by: "guard", why, only: Some(meaning) };
        match engine.set_rule_mode(rule, Mode::Shadow, setter) {
            Ok(set) if set.changed => engine.metrics.guard_judged(rule, GuardVerdict::Demoted),
            // Somebody was quicker.
            Ok(_) => {}
            Err(error) => {
                tracing::error!(rule, %error, "the guard cannot set a rule to shadow, and tries again");
                self.judge.try_again(rule);
            }
        }
    }
}

/// What the rules of a former version decided by; `None` where its text cannot be read back.
fn kept(engine: &Engine, number: u32) -> Option<Meanings> {
    let version = engine.names.version(Versioned::Rules, number)?;
    let text = versions::read(&engine.data_dir, Versioned::Rules, &version)
        .inspect_err(|error| tracing::error!(error, "the guard cannot tell what a version changed"))
        .ok()?;
    Some(lineage::meanings(&rules::compile_kept(&version, &text).ok()?))
}

#[cfg(test)]
mod tests;
