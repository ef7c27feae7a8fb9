//! Watches one decision for the figures: the clock that the decision itself does not have.

use std::time::Instant;

use super::live::InForce;
use crate::{
    authorise::{Seen, Stage, Watch},
    features::shared::SharedEvent,
    observe::{DecisionSeen, Metrics, ReasonGroup, STAGES, ShadowOutcome},
    types::{
        auth::AuthRequest,
        base::BaseCurrency,
        codes::{Decision, ReasonSource},
    },
};

/// Times the whole decision, and of one decision in a few each stage.
pub(super) struct Timer<'a> {
    metrics: &'a Metrics,
    in_force: &'a InForce,
    request: &'a AuthRequest,
    lane: usize,
    began: Instant,
    /// When the last stage ended; absent where the stages of this decision are not timed.
    last: Option<Instant>,
    stage_ns: [u32; STAGES],
    /// Where the deciding thread takes its own decisions in.
    base: Option<&'a BaseCurrency>,
    shared_event: Option<SharedEvent>,
    declined_by: Option<u16>,
}

impl<'a> Timer<'a> {
    /// `began` is when the request arrived. `staged` times the stages too: reading the clock eight times more costs
    /// about as much as the rules.
    pub(super) fn new(
        metrics: &'a Metrics,
        in_force: &'a InForce,
        request: &'a AuthRequest,
        lane: usize,
        began: Instant,
        staged: bool,
    ) -> Timer<'a> {
        let last = staged.then(Instant::now);
        let (stage_ns, base, shared_event, declined_by) = ([0; STAGES], None, None, None);
        Timer { metrics, in_force, request, lane, began, last, stage_ns, base, shared_event, declined_by }
    }

    /// Notes what windows across accounts remember of the decision.
    pub(super) fn noting(self, base: Option<&'a BaseCurrency>) -> Timer<'a> {
        Timer { base, ..self }
    }

    /// What was noted.
    pub(super) fn shared_event(&mut self) -> Option<SharedEvent> {
        self.shared_event.take()
    }

    /// The place of the rule that decided against the cardholder, where a rule did.
    pub(super) fn declined_by(&self) -> Option<u16> {
        self.declined_by
    }

    /// Counts the rules that fired, and of those that do not decide what they would have added.
    fn count_rules(&self, seen: &Seen<'_>) {
        let (counts, rules, lane) = (&self.in_force.rule_counts, &self.in_force.setup.rules, self.lane);
        let against = matches!(seen.answer.decision, Decision::Declined | Decision::StepUp);
        for rule in seen.hits.fired() {
            if rules.decides(rule, seen.hits) {
                counts.hit(lane, rule);
                continue;
            }
            counts.hit_in_shadow(lane, rule);
            if seen.hits.is_suppressed(rule) {
                counts.suppressed(lane, rule);
            }
            // An effect without a code speaks against nothing: it flags, or silences the model.
            if rules.rules[rule].response_code.is_some() {
                let outcome = match against {
                    true => ShadowOutcome::Overlap,
                    false => ShadowOutcome::Alone(self.request.billed()),
                };
                counts.would_have_declined(lane, rule, outcome);
            }
        }
        for rule in seen.hits.unknown() {
            counts.unknown(lane, rule);
        }
    }
}

impl Watch for Timer<'_> {
    fn ended(&mut self, stage: Stage) {
        let Some(last) = self.last else { return };
        let now = Instant::now();
        self.stage_ns[stage as usize] = u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX);
        self.last = Some(now);
    }

    fn decided(&mut self, seen: &Seen<'_>) {
        self.shared_event = self.base.and_then(|base| seen.shared_event(base));
        if seen.expired_holds > 0 {
            self.metrics.expired_on_touch(seen.expired_holds as u64);
        }
        self.count_rules(seen);
        if let (Some(drift), Some(score)) = (&self.in_force.drift, seen.score) {
            drift.saw(self.lane, seen.vector, score);
        }
        if seen.decided_by == Some(ReasonSource::Rule) {
            self.declined_by = self.in_force.setup.rules.decisive(seen.hits);
        }
        let reason_group = match (seen.decided_by, seen.answer.reasons.first()) {
            (Some(_), Some(reason)) => self.in_force.rule_counts.group_of(reason.source, &reason.code),
            _ => ReasonGroup::None,
        };
        self.metrics.decided(
            self.lane,
            &DecisionSeen {
                decision: seen.answer.decision,
                reason_group,
                response_code: seen.answer.response_code,
                score: seen.score,
                challenged: seen.challenged,
                is_control: seen.is_control,
                stage_ns: self.last.map(|_| self.stage_ns),
                total_ns: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            },
        );
    }
}
