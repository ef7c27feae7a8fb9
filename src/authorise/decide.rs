//! Stage 6: from what was found to a decision. A pure function; which stage wins is written here and nowhere else:
//! status > verification > list > rule > model > product limit > credit. Which rule wins among rules is for
//! [`crate::rules::RuleSet::deciding`] to say.

use super::setup::Setup;
use crate::{
    features::catalog::MODEL_FEATURES,
    journal::record::NO_CARD,
    ledger::Account,
    limits::TIME_SKEW_FLAG_MS,
    rules::{Effect, Hits},
    types::{
        account::Day,
        auth::AuthRequest,
        codes::{AccountStatus, CardStatus, CheckResult, Decision, Kind, ReasonSource, ResponseCode},
        reasons::{Reason, Reasons, engine},
        time::{DAY_MS, Timestamp},
    },
};

/// What the stages before found.
pub struct Found<'a> {
    pub request: &'a AuthRequest,
    pub now: Timestamp,
    pub account: &'a Account,
    /// Place of the card, or [`NO_CARD`].
    pub card: u8,
    pub hits: &'a Hits,
    pub vector: &'a [f32; MODEL_FEATURES],
    /// 0 to 999, where a model serves.
    pub score: Option<u16>,
    /// What an increment belongs to; `None` where its original holds nothing here.
    pub chain: Option<Chain>,
}

/// An original with its increments, as a further increment finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Position of the original.
    pub first: u64,
    /// How long any hold of the chain may live.
    pub until: Timestamp,
    /// When the hold that is added to expires.
    pub expires_at: Timestamp,
}

/// When a hold expires that would expire at `alone` without its chain: not before what it adds to, which one clearing
/// or reversal settles with it, and not behind the chain's end.
pub fn increment_expires_at(alone: Timestamp, chain: Option<Chain>) -> Timestamp {
    chain.map_or(alone, |chain| alone.max(chain.expires_at).min(chain.until))
}

/// What was decided.
pub struct Verdict {
    pub decision: Decision,
    pub response_code: ResponseCode,
    pub reasons: Reasons,
    /// What to hold or post, in minor units of the account's currency; 0 for none.
    pub approved_minor: i64,
    /// Where the reason that decided comes from.
    pub decided_by: Option<ReasonSource>,
    /// Whether the model's decline was set aside for the control share.
    pub is_control: bool,
}

/// One way out, with the reason that speaks for it.
struct Against {
    decision: Decision,
    code: ResponseCode,
    reason: Reason,
}

impl Against {
    fn decline(code: ResponseCode, reason: Reason) -> Against {
        Against { decision: Decision::Declined, code, reason }
    }
}

/// Decides.
pub fn decide(found: &Found<'_>, setup: &Setup) -> Verdict {
    let mut reasons = Collected::default();
    status(found, &mut reasons);
    verification(found.request, &mut reasons);
    let inquiry = found.request.kind == Kind::BalanceInquiry;
    let mut is_control = false;
    if !inquiry {
        let silenced = rules(found, setup, &mut reasons);
        is_control = model(found, setup, silenced, &mut reasons);
    }
    let kind = found.request.decided_as();
    let approved_minor = match kind {
        Kind::AccountVerification | Kind::BalanceInquiry => 0,
        _ => credit(found, &mut reasons),
    };
    skew(found, &mut reasons);

    let partly = approved_minor > 0 && found.request.billed().is_some_and(|m| approved_minor < m.minor);
    match reasons.deciding {
        Some((decision, code, source)) => Verdict {
            decision,
            response_code: code,
            reasons: reasons.list,
            approved_minor: 0,
            decided_by: Some(source),
            is_control,
        },
        None => Verdict {
            decision: if partly { Decision::PartiallyApproved } else { Decision::Approved },
            response_code: match kind {
                Kind::AccountVerification => ResponseCode::VERIFIED,
                _ if partly => ResponseCode::PARTIAL,
                _ => ResponseCode::APPROVED,
            },
            reasons: reasons.list,
            approved_minor,
            decided_by: None,
            is_control,
        },
    }
}

/// The reasons in the order they are found, which is the order of precedence: the first that speaks against the
/// request decides and moves to the front.
#[derive(Default)]
struct Collected {
    list: Reasons,
    deciding: Option<(Decision, ResponseCode, ReasonSource)>,
}

impl Collected {
    fn against(&mut self, against: Against) {
        let source = against.reason.source;
        let first = self.deciding.is_none();
        self.remark(against.reason);
        if first {
            self.deciding = Some((against.decision, against.code, source));
            // A full list has lost its last remark, never the reason that decides.
            self.list.rotate_right(1);
        }
    }

    /// A remark that goes before all others.
    fn first(&mut self, reason: Reason) {
        self.remark(reason);
        self.list.rotate_right(1);
    }

    fn remark(&mut self, reason: Reason) {
        if self.list.is_full() {
            if self.deciding.is_some() {
                return;
            }
            self.list.pop();
        }
        self.list.push(reason);
    }
}

fn status(found: &Found<'_>, reasons: &mut Collected) {
    let account = found.account;
    if found.request.billed().is_some_and(|billed| billed.currency != account.currency) {
        reasons.against(Against::decline(ResponseCode::INVALID_AMOUNT, engine::WRONG_CURRENCY));
    }
    match account.status {
        AccountStatus::Active => {}
        AccountStatus::Closed => {
            reasons.against(Against::decline(ResponseCode::CLOSED, engine::ACCOUNT_CLOSED))
        }
        AccountStatus::Blocked => {
            reasons.against(Against::decline(ResponseCode::RESTRICTED, engine::ACCOUNT_BLOCKED));
        }
    }
    if found.card != NO_CARD {
        let card = &account.cards[usize::from(found.card)];
        let today = Day(found.now.0.div_euclid(DAY_MS) as i32);
        let against = match card.status {
            CardStatus::Stolen => Some((ResponseCode::STOLEN, engine::CARD_STOLEN)),
            CardStatus::Lost => Some((ResponseCode::LOST, engine::CARD_LOST)),
            CardStatus::Closed => Some((ResponseCode::CLOSED, engine::CARD_CLOSED)),
            CardStatus::Expired => Some((ResponseCode::EXPIRED, engine::CARD_EXPIRED)),
            CardStatus::Blocked => Some((ResponseCode::RESTRICTED, engine::CARD_BLOCKED)),
            CardStatus::Active if card.expires_on.is_some_and(|day| day < today) => {
                Some((ResponseCode::EXPIRED, engine::CARD_EXPIRED))
            }
            CardStatus::Active => None,
        };
        if let Some((code, reason)) = against {
            reasons.against(Against::decline(code, reason));
        }
    }
    if found.request.kind == Kind::Incremental && found.chain.is_none() {
        reasons.against(Against::decline(ResponseCode::INVALID_TRANSACTION, engine::ORIGINAL_NOT_FOUND));
    }
}

fn verification(request: &AuthRequest, reasons: &mut Collected) {
    let results = &request.verification;
    match results.pin {
        Some(CheckResult::TriesExceeded) => {
            reasons.against(Against::decline(ResponseCode::PIN_TRIES, engine::PIN_TRIES_EXCEEDED));
        }
        Some(CheckResult::NoMatch) => {
            reasons.against(Against::decline(ResponseCode::WRONG_PIN, engine::PIN_WRONG));
        }
        _ => {}
    }
    if results.cvv == Some(CheckResult::NoMatch) {
        reasons.against(Against::decline(ResponseCode::CVV_FAILURE, engine::CVV_MISMATCH));
    }
    if results.three_ds == Some(CheckResult::NoMatch) {
        reasons.against(Against::decline(ResponseCode::SECURITY_VIOLATION, engine::THREE_DS_FAILED));
    }
}

/// Returns whether a rule silences the model.
fn rules(found: &Found<'_>, setup: &Setup, reasons: &mut Collected) -> bool {
    let mut silenced = false;
    for rule in setup.rules.deciding(found.hits) {
        let reason = Reason {
            code: rule.reason.clone().into(),
            source: ReasonSource::Rule,
            text: rule.text.clone().into(),
            contribution: 0.0,
        };
        silenced |= rule.then == Effect::ApproveDespiteScore;
        match rule.response_code.or(rule.then.response_code()) {
            Some(code) => {
                let decision =
                    if rule.then == Effect::StepUp { Decision::StepUp } else { Decision::Declined };
                reasons.against(Against { decision, code, reason });
            }
            // An effect without a code answers nothing: it approves despite the score, or flags.
            None => reasons.remark(reason),
        }
    }
    silenced
}

/// Returns whether the model's decline is set aside, because nothing else spoke against the request so far and it is one
/// of the control share. What comes after the model still may.
fn model(found: &Found<'_>, setup: &Setup, silenced: bool, reasons: &mut Collected) -> bool {
    let (Some(model), Some(score)) = (&setup.model, found.score) else { return false };
    if score < model.decline_threshold() {
        return false;
    }
    let is_alone = !silenced && reasons.deciding.is_none();
    let is_control = is_alone && setup.control.takes(found.request.key.as_str());
    match (silenced, is_control) {
        (true, _) => reasons.remark(engine::MODEL_SCORE),
        // First, so that no other remark takes its room.
        (false, true) => reasons.first(engine::MODEL_CONTROL),
        (false, false) => {
            reasons.against(Against::decline(ResponseCode::SUSPECTED_FRAUD, engine::MODEL_SCORE));
        }
    }
    for contribution in model.explain(found.vector) {
        reasons.remark(contribution);
    }
    is_control
}

/// Returns what can be approved, and says against it where that is nothing.
fn credit(found: &Found<'_>, reasons: &mut Collected) -> i64 {
    let account = found.account;
    let Some(billed) = found.request.billed().filter(|billed| billed.currency == account.currency) else {
        return 0;
    };
    if account.can_hold(billed.minor, found.now) {
        return billed.minor;
    }
    let available = account.available_minor(found.now);
    if found.request.partial_approval_allowed && available > 0 {
        if reasons.deciding.is_none() {
            reasons.first(engine::PARTIAL_APPROVAL);
        }
        return available;
    }
    reasons.against(Against::decline(ResponseCode::INSUFFICIENT_FUNDS, engine::INSUFFICIENT_CREDIT));
    0
}

fn skew(found: &Found<'_>, reasons: &mut Collected) {
    let off =
        found.request.transaction_time.is_some_and(|time| time.since_ms(found.now).abs() > TIME_SKEW_FLAG_MS);
    if off {
        reasons.remark(engine::TIME_SKEW);
    }
}
