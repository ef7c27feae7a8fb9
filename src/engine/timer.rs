//! Watches one decision for the figures: the clock that the decision itself does not have.

use std::time::Instant;

use crate::{
    authorise::{Seen, Stage, Watch},
    features::shared::SharedEvent,
    observe::{DecisionSeen, Metrics, ReasonGroup, RuleCounts, STAGES},
    types::base::BaseCurrency,
};

/// Times the whole decision, and of one decision in a few each stage.
pub(super) struct Timer<'a> {
    metrics: &'a Metrics,
    rule_counts: &'a RuleCounts,
    lane: usize,
    began: Instant,
    /// When the last stage ended; absent where the stages of this decision are not timed.
    last: Option<Instant>,
    stage_ns: [u32; STAGES],
    /// Where the deciding thread takes its own decisions in.
    base: Option<&'a BaseCurrency>,
    shared_event: Option<SharedEvent>,
}

impl<'a> Timer<'a> {
    /// `began` is when the request arrived. `staged` times the stages too: reading the clock eight times more costs
    /// about as much as the rules.
    pub(super) fn new(
        metrics: &'a Metrics,
        rule_counts: &'a RuleCounts,
        lane: usize,
        began: Instant,
        staged: bool,
    ) -> Timer<'a> {
        let last = staged.then(Instant::now);
        let (stage_ns, base, shared_event) = ([0; STAGES], None, None);
        Timer { metrics, rule_counts, lane, began, last, stage_ns, base, shared_event }
    }

    /// Notes what windows across accounts remember of the decision.
    pub(super) fn noting(self, base: Option<&'a BaseCurrency>) -> Timer<'a> {
        Timer { base, ..self }
    }

    /// What was noted.
    pub(super) fn shared_event(&mut self) -> Option<SharedEvent> {
        self.shared_event.take()
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
        for rule in seen.hits.fired() {
            self.rule_counts.hit(self.lane, rule);
        }
        for rule in seen.hits.unknown() {
            self.rule_counts.unknown(self.lane, rule);
        }
        let reason_group = match (seen.decided_by, seen.answer.reasons.first()) {
            (Some(_), Some(reason)) => self.rule_counts.group_of(reason.source, &reason.code),
            _ => ReasonGroup::None,
        };
        self.metrics.decided(
            self.lane,
            &DecisionSeen {
                decision: seen.answer.decision,
                reason_group,
                response_code: seen.answer.response_code,
                score: seen.score,
                stage_ns: self.last.map(|_| self.stage_ns),
                total_ns: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            },
        );
    }
}
