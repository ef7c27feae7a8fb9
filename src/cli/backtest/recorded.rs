//! What the engine decided when it was live beside what is decided here on the same requests.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::against::Side;
use crate::{journal::record::Decided, types::auth::AuthAnswer};

/// Differences that are listed.
const LISTED: usize = 20;

/// How the decisions of a journal compare with those made from it.
#[derive(Default)]
pub(super) struct Recorded {
    /// The number of the settings that decide here.
    config: u32,
    compared: u64,
    /// Equal in decision, response code, score and reasons, to the last bit of the score.
    equal: u64,
    /// Recorded under other rules, another model or other settings than decide here.
    other_versions: u64,
    differences: Vec<Difference>,
    /// Records that are no requests and were done again.
    pub(super) applied: u64,
    /// Such records that could not be, and why the first of them could not.
    not_applied: u64,
    not_applied_why: Option<String>,
}

struct Difference {
    position: u64,
    transaction_id: String,
    account: String,
    recorded: Side,
    now: Side,
    /// What differs.
    what: Vec<&'static str>,
}

impl Recorded {
    /// Where the settings of this number decide here.
    pub(super) fn beside(config: u32) -> Recorded {
        Recorded { config, ..Recorded::default() }
    }

    pub(super) fn compare(&mut self, decided: &Decided, now: &AuthAnswer) {
        let then = &decided.answer;
        self.compared += 1;
        let versions = |answer: &AuthAnswer| (answer.rules_version.clone(), answer.model_version.clone());
        let is_other = versions(then) != versions(now) || decided.versions.config != self.config;
        self.other_versions += u64::from(is_other);
        let score = |answer: &AuthAnswer| (answer.score, answer.margin.map(f64::to_bits));
        let what: Vec<_> = [
            (then.decision != now.decision, "decision"),
            (then.response_code != now.response_code, "response code"),
            (score(then) != score(now), "score"),
            (then.reasons != now.reasons, "reasons"),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect();
        if what.is_empty() {
            self.equal += 1;
        } else if self.differences.len() < LISTED {
            self.differences.push(Difference {
                position: now.position,
                transaction_id: decided.request.key.to_string(),
                account: decided.account.map(|account| account.to_string()).unwrap_or_default(),
                recorded: Side::of(then),
                now: Side::of(now),
                what,
            });
        }
    }

    pub(super) fn not_applied(&mut self, position: u64, why: &str) {
        self.not_applied += 1;
        self.not_applied_why.get_or_insert_with(|| format!("position {position}: {why}"));
    }

    /// In sentences, for people.
    pub(super) fn summary(&self) -> Vec<String> {
        let Recorded { compared, equal, other_versions, applied, not_applied, .. } = self;
        let percent = 100.0 * *equal as f64 / (*compared).max(1) as f64;
        // A rounded 100 must not hide a difference.
        let percent = if equal < compared { percent.min(99.999) } else { percent };
        let mut lines = vec![format!(
            "{equal} of {compared} recorded decisions come out equal ({percent:.3} %): decision, response code, score and \
             reasons"
        )];
        if *other_versions > 0 {
            lines.push(format!(
                "{other_versions} of them were recorded under other rules, another model or other settings"
            ));
        }
        lines.push(format!("{applied} openings, changes, reversals, voids and expiries done again"));
        if let Some(why) = &self.not_applied_why {
            lines.push(format!("{not_applied} of those NOT DONE AGAIN, {why}"));
        }
        lines
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.summary() {
            let _ = writeln!(text, "{line}");
        }
        for Difference { position, transaction_id, account, recorded, now, what } in &self.differences {
            let _ = writeln!(
                text,
                "  position {position}, {transaction_id} of {account}: recorded {recorded}; now {now}: {}",
                what.join(", ")
            );
        }
        let more = self.compared - self.equal - self.differences.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let differences = self.differences.iter().map(|difference| {
            json!({
                "position": difference.position,
                "transaction_id": difference.transaction_id,
                "account": difference.account,
                "recorded": difference.recorded.to_string(),
                "now": difference.now.to_string(),
                "differs_in": difference.what,
            })
        });
        json!({
            "compared": self.compared,
            "equal": self.equal,
            "under_other_versions": self.other_versions,
            "applied": self.applied,
            "not_applied": self.not_applied,
            "not_applied_why": self.not_applied_why,
            "differences": differences.collect::<Vec<_>>(),
        })
    }
}
