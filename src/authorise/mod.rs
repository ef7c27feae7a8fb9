//! The decision. [`authorise`] shows its eight stages in order; everything they read is an argument, and nothing
//! here knows a clock, a file or a socket, so that serving, replay, backtest and tests run this very code.
//!
//! Deliberately absent: waiting for the disk (that is the engine's), turning trouble into declines, and any lock
//! but the account's own, which is held from stage 2 to stage 8.

pub mod answers;
pub mod decide;
pub mod entry;
mod in_force;
pub mod keys;
pub mod listing;
pub mod maintain;
pub mod restore;
pub mod reverse;
pub mod score;
pub mod setup;
pub mod stored;

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use crate::{
    canary,
    features::{
        self, AccountFacts, Moment, Plan,
        catalog::{self, MODEL_FEATURES},
        event::Event,
        shared::{Owner, Parts, SharedEvent, SharedPlan, SharedRead},
        values::Values,
    },
    journal::record::{Counted, Decided, DecidedView, Labelled, NO_CARD, Record},
    ledger::{Account, Hold},
    limits::{AGGREGATES_MAX, HOLD_LIFE_MAX_MS, HOLDS_PER_ACCOUNT_MAX},
    rules::{self, Hits},
    types::{
        auth::{AuthAnswer, AuthRequest, Degraded, Merchant, Subject},
        base::BaseCurrency,
        challenge::Challenged,
        codes::{Decision, Kind, ReasonSource, ResponseCode},
        ids::{AccountId, Kept},
        lists::TransactionIds,
        reasons::{Reason, Reasons, engine},
        time::Timestamp,
    },
};
use answers::{Answers, Claim, Claimed, NO_ACCOUNT, Remembered, What};
use decide::{Chain, Found, increment_expires_at};
use entry::{Entry, Store};
use in_force::InForce;
pub use in_force::Observed;
use score::Scoring;
use setup::Setup;

/// What outlives a request: the accounts, and the answers given.
pub struct State {
    pub store: Store,
    pub answers: Answers,
}

/// Where a record goes: a slot of the journal's ring, or the scratch of a replay. From [`Sink::take_sequence`] on
/// nothing may fail until [`Sink::publish`].
pub trait Sink {
    /// The position of this record, once and for all.
    fn take_sequence(&mut self) -> u64;
    /// Empty, with room for the largest record.
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// Whether anybody will read the record of a decision. A replay that is about the answers alone leaves it unwritten.
    fn wants_record(&self) -> bool {
        true
    }
    /// Hands the record over. Never blocks.
    fn publish(self);
}

/// The stages, for whoever measures them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Seen before?
    Lookup = 0,
    /// Finding the account and waiting for its lock.
    LockWait,
    Features,
    Rules,
    Score,
    Decide,
    /// Placing the hold, encoding the record and publishing it.
    Record,
}

impl Stage {
    pub const ALL: [Stage; 7] = [
        Stage::Lookup,
        Stage::LockWait,
        Stage::Features,
        Stage::Rules,
        Stage::Score,
        Stage::Decide,
        Stage::Record,
    ];

    /// In lower case, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Lookup => "lookup",
            Stage::LockWait => "lock_wait",
            Stage::Features => "features",
            Stage::Rules => "rules",
            Stage::Score => "score",
            Stage::Decide => "decide",
            Stage::Record => "record",
        }
    }
}

/// Told when a stage ends and what was found; has the clock that this room has not.
pub trait Watch {
    fn ended(&mut self, _stage: Stage) {}
    /// What was decided, for the figures.
    fn decided(&mut self, _seen: &Seen<'_>) {}
}

/// For replay and tests: nobody watches.
impl Watch for () {}

/// What a watcher sees of one decision.
pub struct Seen<'a> {
    pub answer: &'a AuthAnswer,
    pub decided_by: Option<ReasonSource>,
    pub hits: &'a Hits,
    /// The model's features; all missing where nothing was considered.
    pub vector: &'a [f32; MODEL_FEATURES],
    pub score: Option<u16>,
    /// What the challenger made of it.
    pub challenged: Option<Challenged>,
    /// Whether the model's decline was set aside for the control share.
    pub is_control: bool,
    /// Holds whose deadline was found to have come.
    pub expired_holds: usize,
    pub request: &'a AuthRequest,
    /// What the windows remember of it; `None` where they do not. Without its amount where there is no account.
    pub event: Option<&'a Event>,
    /// The account that it was decided on.
    pub account: Option<AccountId>,
    /// Place of the card in that account, or [`NO_CARD`].
    pub card: u8,
}

impl Seen<'_> {
    /// What windows across accounts remember of it.
    pub fn shared_event(&self, base: &BaseCurrency) -> Option<SharedEvent> {
        self.event.map(|event| SharedEvent::new(self.request, event.clone(), base, self.account.as_ref()))
    }
}

/// Who asks, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub client: u32,
    /// The engine's time, fixed at the door.
    pub now: Timestamp,
    /// What stands under the key of an increment's original. Looked up at the door, because two locks are never
    /// held at once, and stored in the record, so that deciding again sees the same.
    pub original: Option<Remembered>,
}

/// What came of a request.
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation"
)]
pub enum Taken {
    /// Decided now; the answer counts once its position is durable.
    Decided(AuthAnswer, Remembered),
    /// Its key was seen before: the record there says with what body and answer.
    Known(Remembered),
    /// Its key is being decided by another thread at this moment.
    Busy,
    /// Its key may stand in a key file: look there, then go on with [`decide_claimed`].
    Older,
    /// The account was opened while it was being looked for, or what was read across accounts was read for another card of
    /// it than is meant by now: ask again with a new slot.
    Again,
    /// No room to remember one more answer.
    Full,
    /// No room for one more hold on the account.
    TooManyHolds,
}

/// A request to be decided, and what is known of it at the door.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub request: &'a AuthRequest,
    pub asked: Asked,
    /// What was read of the windows across accounts, before the account's lock is taken.
    pub shared: &'a SharedRead,
    /// How many of the model's features are known: all, but where a record of an earlier program is made again.
    pub features: usize,
    /// What is put in force instead of the decision, where a replay follows what history did.
    pub observed: Option<Observed>,
}

/// Decides one request and publishes its record.
pub fn authorise(
    state: &State,
    setup: &Setup,
    attempt: Attempt<'_>,
    sink: impl Sink,
    watch: &mut impl Watch,
) -> Taken {
    let Attempt { request, asked, .. } = attempt;
    // 1. Seen before?
    let key = state.answers.hash(asked.client, &request.key);
    let (claim, reversed_before) = match state.answers.claim(key) {
        Claimed::Fresh(claim) => (claim, false),
        Claimed::ReversedBefore(claim, _) => (claim, true),
        Claimed::Known(found) => return Taken::Known(found),
        Claimed::Busy => return Taken::Busy,
        Claimed::Older(_) => return Taken::Older,
        Claimed::Full => return Taken::Full,
    };
    watch.ended(Stage::Lookup);
    decide_claimed(state, setup, attempt, (claim, reversed_before), sink, watch)
}

/// Stages 2 to 8 of [`authorise`], for a key that the caller has claimed, with whether its reversal came first.
pub fn decide_claimed(
    state: &State,
    setup: &Setup,
    attempt: Attempt<'_>,
    (claim, reversed_before): (Claim<'_>, bool),
    sink: impl Sink,
    watch: &mut impl Watch,
) -> Taken {
    let request = attempt.request;
    // 2. Card, account, status.
    let mut sink = sink;
    let at = state.store.find(&request.subject).filter(|_| !reversed_before);
    let answer = match at {
        None => {
            let position = sink.take_sequence();
            let code = match reversed_before {
                true => (ResponseCode::INVALID_TRANSACTION, engine::REVERSED_BEFORE_ARRIVAL),
                // An opening takes its place before its sequence: if it came first in the journal, it is seen here.
                false if state.store.find(&request.subject).is_some() => return Taken::Again,
                false => UNKNOWN,
            };
            refuse(setup, attempt, code, position, sink, watch)
        }
        Some(at) => {
            let decided =
                state.store.with_account(at, |entry| decide_on(entry, at, setup, attempt, sink, watch));
            match decided {
                Ok(answer) => answer,
                Err(Undecided::TooManyHolds) => return Taken::TooManyHolds,
                Err(Undecided::OtherCard) => return Taken::Again,
            }
        }
    };
    // An answer given without an account stays without one, whoever is opened in its place later.
    let account = at.filter(|_| answer.approved.is_some()).unwrap_or(NO_ACCOUNT);
    let remembered = Remembered { what: What::Authorisation, position: answer.position, account };
    claim.settle(remembered);
    Taken::Decided(answer, remembered)
}

const UNKNOWN: (ResponseCode, Reason) = (ResponseCode::INVALID_CARD, engine::UNKNOWN_CARD);

/// Why nothing was decided, and nothing changed.
enum Undecided {
    /// The account has as many holds as it may have.
    TooManyHolds,
    /// What was read was not read for this card.
    OtherCard,
}

/// Stages 2 to 8, under the account's lock.
fn decide_on(
    entry: &mut Entry,
    at: u32,
    setup: &Setup,
    attempt: Attempt<'_>,
    mut sink: impl Sink,
    watch: &mut impl Watch,
) -> Result<AuthAnswer, Undecided> {
    let Attempt { request, asked, shared, features, observed } = attempt;
    let Entry { account, history } = entry;
    history.touch();
    let card = account.as_ref().and_then(|account| card_of(account, &request.subject));
    let (Some(account), Some(card)) = (account, card) else {
        let position = sink.take_sequence();
        return Ok(refuse(setup, attempt, UNKNOWN, position, sink, watch));
    };
    if shared.owner != Owner::NotAsked
        && shared.owner != (Owner::Card { account: at, card: window_card(card) })
    {
        return Err(Undecided::OtherCard);
    }
    watch.ended(Stage::LockWait);

    // 3. Features.
    let mut values = Values::new();
    let mut hits = Hits::default();
    let mut vector = [f32::NAN; MODEL_FEATURES];
    let mut scoring = Scoring::default();
    let facts = facts(account, setup.limits_assumed, asked.now);
    let card_token = (card != NO_CARD).then(|| account.cards[usize::from(card)].token.get());
    let card_token = card_token.as_ref().map(|token| token.as_str());
    let moment = Moment { request, account: &facts, card: window_card(card), card_token, time: asked.now };
    if request.kind != Kind::BalanceInquiry {
        history.read(&setup.plan, &moment, &mut values);
        shared.fill(&setup.shared, &setup.rules.aggregates, &setup.base, request.billed(), &mut values);
        catalog::model_vector(&values, &mut vector);
        vector[features..].fill(f32::NAN);
        watch.ended(Stage::Features);

        // 4. Lists and rules.
        let currency = request.billed().map_or(account.currency, |money| money.currency);
        let seen = rules::Seen { lists: &setup.lists, now: asked.now };
        setup.rules.evaluate(&values, currency, seen, &mut hits);
        setup.rules.restrict(&values, asked.now, &mut hits);
        setup.rules.hold_back(shared.unfilled, &mut hits);
        watch.ended(Stage::Rules);

        // 5. Score.
        scoring = setup.score(&vector);
        watch.ended(Stage::Score);
    }

    // 6. Decide.
    let score = scoring.scored.map(|scored| scored.score);
    let original = asked.original.filter(|found| found.account == at).map(|found| found.position);
    let chain = original
        .and_then(|position| account.hold(position))
        .filter(|hold| hold.expires_at > asked.now && !hold.posted)
        .map(|hold| Chain { first: hold.first, until: hold.chain_until, expires_at: hold.expires_at });
    let found = Found { request, now: asked.now, account, card, hits: &hits, vector: &vector, score, chain };
    let verdict = decide::decide(&found, setup);
    let in_force = match observed {
        None => InForce::decided(&verdict),
        Some(observed) => InForce::observed(observed, request, account.currency),
    };
    let is_full = account.holds().len() >= HOLDS_PER_ACCOUNT_MAX;
    if is_full && in_force.amount_minor > 0 && account.open_holds(asked.now) >= HOLDS_PER_ACCOUNT_MAX {
        return Err(Undecided::TooManyHolds);
    }
    watch.ended(Stage::Decide);

    let wants_record = sink.wants_record();
    let aggregates = if wants_record { aggregates_of(setup, &values, shared) } else { ArrayVec::new() };

    // 7. Hold. From here to the publication nothing can fail.
    let position = sink.take_sequence();
    let event = is_attempt(request.kind, verdict.response_code, verdict.decided_by)
        .then(|| features::event_of(&moment, position, in_force.decision, in_force.declined_for_credit));
    if let Some(event) = &event {
        history.record(&setup.plan, event.clone());
    }
    let expired_holds = account.expire(asked.now).holds;
    let available_before_minor = account.available_minor(asked.now);
    assert!(
        verdict.approved_minor <= 0 || verdict.approved_minor <= available_before_minor,
        "a hold that was decided under this lock fits"
    );
    account.last_position = position;
    // A single message is posted at once, and leaves what a reversal can find.
    let expires_at =
        (!request.single_message).then(|| increment_expires_at(setup.expires_at(request, asked.now), chain));
    if in_force.amount_minor > 0 {
        account.place(Hold {
            position,
            first: chain.map_or(position, |chain| chain.first),
            amount_minor: in_force.amount_minor,
            expires_at: expires_at.unwrap_or(kept_posted_until(asked.now)),
            chain_until: chain.map_or(asked.now.plus_ms(HOLD_LIFE_MAX_MS), |chain| chain.until),
            posted: request.single_message,
        });
    }
    let holds = verdict.approved_minor > 0;
    let first = chain.filter(|_| holds).map(|chain| chain.first);
    let available_minor = match observed {
        None => account.available_minor(asked.now),
        Some(_) => available_before_minor.saturating_sub(verdict.approved_minor),
    };
    let Scoring { scored, degraded, .. } = scoring;
    let answer = AuthAnswer {
        decision: verdict.decision,
        response_code: verdict.response_code,
        advice_code: None,
        approved: Some(account.money(verdict.approved_minor)),
        available: Some(account.money(available_minor)),
        reasons: verdict.reasons,
        score: scored.map_or(0, |scored| scored.score),
        margin: scored.map(|scored| scored.margin),
        rules_version: setup.rules_version.clone(),
        model_version: setup.model_version.clone(),
        degraded,
        decided_at: asked.now,
        hold_expires_at: expires_at.filter(|_| holds),
        position,
    };

    // 8. Journal record.
    let hits = &hits;
    let account_id = account.id.get();
    if wants_record {
        let fired = |decides: bool| {
            let fired = hits.fired().filter(move |rule| setup.rules.decides(*rule, hits) == decides);
            fired.map(|rule| rule as u16)
        };
        let faulty = canary::active("answer_not_in_record").then(|| AuthAnswer {
            available: None,
            reasons: Reasons::new(),
            ..answer.clone()
        });
        let record = DecidedView {
            client: asked.client,
            time: asked.now,
            request,
            account: Some(&account_id),
            card,
            versions: setup.numbers,
            lists: setup.lists.version(),
            answer: faulty.as_ref().unwrap_or(&answer),
            original,
            first,
            vector: &vector,
            features,
            aggregates: aggregates.iter().copied(),
            shared_to: shared.to,
            fired: fired(true),
            shadow_fired: fired(false),
            challenged: scoring.challenged,
        };
        record.encode(sink.buffer());
    }
    sink.publish();
    watch.ended(Stage::Record);
    watch.decided(&Seen {
        answer: &answer,
        decided_by: verdict.decided_by,
        hits,
        vector: &vector,
        score,
        challenged: scoring.challenged,
        is_control: verdict.is_control,
        expired_holds,
        request,
        event: event.as_ref(),
        account: Some(account_id),
        card,
    });
    Ok(answer)
}

/// The aggregates of the rules file as the record has them, in the file's order.
fn aggregates_of(
    setup: &Setup,
    values: &Values<'_>,
    shared: &SharedRead,
) -> ArrayVec<Option<i64>, AGGREGATES_MAX> {
    let places = (0..setup.rules.aggregates.len()).take(AGGREGATES_MAX);
    let mut aggregates: ArrayVec<_, AGGREGATES_MAX> =
        places.map(|place| values.int(Plan::aggregate_slot(place))).collect();
    // Those that cross accounts in the numbers that they were read in.
    for (place, read) in setup.shared.places().iter().zip(&shared.values) {
        if let Some(aggregate) = aggregates.get_mut(usize::from(*place)) {
            *aggregate = read.value;
        }
    }
    aggregates
}

/// The place of a card among the windows of its account: 0 is for requests without a card, so that cards opened
/// later do not take it over.
fn window_card(card: u8) -> u8 {
    card.wrapping_add(1)
}

/// Whether the windows remember a decision: a balance inquiry asks for nothing, and an amount in another currency than
/// the account's, the one thing that status declines with 13, is a slip of whoever sent it and says nothing of the
/// cardholder.
fn is_attempt(kind: Kind, response_code: ResponseCode, decided_by: Option<ReasonSource>) -> bool {
    let wrong_currency =
        response_code == ResponseCode::INVALID_AMOUNT && decided_by == Some(ReasonSource::Status);
    kind != Kind::BalanceInquiry && !wrong_currency
}

/// Whether windows across accounts remember what reached no account: somebody who tries numbers does so at a merchant,
/// from a device. A request whose reversal came first was taken back, and is no attempt.
fn is_try(account: Option<&AccountId>, answer: &AuthAnswer) -> bool {
    account.is_some() || answer.response_code == ResponseCode::INVALID_CARD
}

/// What windows across accounts remember of a decision in the journal.
pub fn shared_event_of(position: u64, decided: &Decided, base: &BaseCurrency) -> Option<SharedEvent> {
    let Decided { request, answer, account, .. } = decided;
    if !is_try(account.as_ref(), answer) {
        return None;
    }
    let event = restore::event_of(position, decided)?;
    Some(SharedEvent::new(request, event, base, account.as_ref()))
}

/// What a label's record is to say of the transaction, for windows across accounts; `None` for one that they do not
/// remember, or that reached no account. `said` are the labels that have come before.
pub fn counted_of(position: u64, decided: &Decided, said: u8) -> Option<Counted> {
    decided.account?;
    let event = restore::event_of(position, decided)?;
    Some(Counted {
        time: event.time,
        kind: event.kind,
        decision: event.decision,
        declined_for_credit: event.declined_for_credit,
        card: event.card,
        billed: decided.request.billed(),
        channel: event.channel,
        mcc: event.mcc,
        country: event.country,
        said,
    })
}

/// What windows across accounts remember of a label: the transaction at its own time, once for each label that ever comes
/// for it.
pub fn labelled_event_of(position: u64, labelled: &Labelled, base: &BaseCurrency) -> Option<SharedEvent> {
    let (counted, account, label) = (labelled.counted?, labelled.account?, labelled.labelling.label);
    if counted.has_said(label) {
        return None;
    }
    let TransactionIds { merchant, terminal, device, ip, .. } = labelled.ids;
    let Counted { time, kind, decision, declined_for_credit, card, billed, channel, mcc, country, .. } =
        counted;
    let request = AuthRequest {
        amount: billed,
        merchant: Merchant {
            merchant_id: merchant,
            terminal_id: terminal,
            mcc,
            country,
            ..Merchant::default()
        },
        device_id: device,
        ip_address: ip,
        channel,
        ..AuthRequest::new(labelled.labelling.transaction, kind, Subject::Account(account))
    };
    let event = features::event_of_nothing(&request, (time, card), position, decision, declined_for_credit);
    Some(SharedEvent { label: Some(label), ..SharedEvent::new(&request, event, base, Some(&account)) })
}

/// The parts of a request that windows across accounts are read by, before the account's lock is taken. Whose request it
/// is, is looked up where they ask for it, and said.
pub fn parts_of(store: &Store, plan: &SharedPlan, request: &AuthRequest) -> (Parts, Owner) {
    let parts = Parts::of(request);
    if !plan.asks_for_owner() {
        return (parts, Owner::NotAsked);
    }
    let of_owner = |at: u32| {
        store.with_account(at, |entry| {
            let account = entry.account.as_ref()?;
            let card = window_card(card_of(account, &request.subject)?);
            Some((parts.on(account.id.as_str(), card), Owner::Card { account: at, card }))
        })
    };
    store.find(&request.subject).and_then(of_owner).unwrap_or((parts, Owner::Nobody))
}

/// The same of a request that was decided on the card at a place of an account.
pub fn parts_on(request: &AuthRequest, (account, card): (Option<&AccountId>, u8)) -> Parts {
    let parts = Parts::of(request);
    account.map_or(parts, |account| parts.on(account.as_str(), window_card(card)))
}

/// What windows across accounts remember of a record.
pub fn shared_event_of_record(position: u64, record: &Record, base: &BaseCurrency) -> Option<SharedEvent> {
    match record {
        Record::Decided(decided) => shared_event_of(position, decided, base),
        Record::Labelled(labelled) => labelled_event_of(position, labelled, base),
        _ => None,
    }
}

/// How long a posted amount can be found by a reversal.
fn kept_posted_until(now: Timestamp) -> Timestamp {
    now.plus_ms(HOLD_LIFE_MAX_MS)
}

/// Declines a request that reaches no account, at the position taken for it.
fn refuse(
    setup: &Setup,
    Attempt { request, asked, features, .. }: Attempt<'_>,
    (response_code, reason): (ResponseCode, Reason),
    position: u64,
    mut sink: impl Sink,
    watch: &mut impl Watch,
) -> AuthAnswer {
    let answer = AuthAnswer {
        decision: Decision::Declined,
        response_code,
        advice_code: None,
        approved: None,
        available: None,
        reasons: std::iter::once(reason).collect(),
        score: 0,
        margin: None,
        rules_version: setup.rules_version.clone(),
        model_version: setup.model_version.clone(),
        degraded: Degraded::NONE,
        decided_at: asked.now,
        hold_expires_at: None,
        position,
    };
    let (none, vector) = (std::iter::empty::<u16>, [f32::NAN; MODEL_FEATURES]);
    let record = DecidedView {
        client: asked.client,
        time: asked.now,
        request,
        account: None,
        card: NO_CARD,
        versions: setup.numbers,
        lists: setup.lists.version(),
        answer: &answer,
        original: None,
        first: None,
        vector: &vector,
        features,
        aggregates: std::iter::empty::<Option<i64>>(),
        shared_to: 0,
        fired: none(),
        shadow_fired: none(),
        challenged: None,
    };
    if sink.wants_record() {
        record.encode(sink.buffer());
    }
    sink.publish();
    let decided_by = Some(ReasonSource::Status);
    let is_attempt = is_attempt(request.kind, answer.response_code, Some(ReasonSource::Status));
    let event = (is_attempt && is_try(None, &answer)).then(|| {
        let when_and_where = (asked.now, window_card(NO_CARD));
        features::event_of_nothing(request, when_and_where, position, answer.decision, false)
    });
    watch.decided(&Seen {
        answer: &answer,
        decided_by,
        hits: &Hits::default(),
        vector: &vector,
        score: None,
        challenged: None,
        is_control: false,
        expired_holds: 0,
        request,
        event: event.as_ref(),
        account: None,
        card: NO_CARD,
    });
    answer
}

/// The place of the card a request is about. An account with exactly one card means that card; one with several
/// means none of them. `None` where the account does not have the token
/// (yet), or is another one.
fn card_of(account: &Account, subject: &Subject) -> Option<u8> {
    match subject {
        Subject::Card(token) => account.card(token).map(|(place, _)| place),
        // It was found by a hash of its id.
        Subject::Account(id) if account.id.as_str() != id.as_str() => None,
        Subject::Account(_) if account.cards.len() == 1 => Some(0),
        Subject::Account(_) => Some(NO_CARD),
    }
}

fn facts(account: &Account, limit_is_assumed: bool, now: Timestamp) -> AccountFacts<'_> {
    AccountFacts {
        account_id: account.id.as_str(),
        product: account.product.as_ref().map(Kept::as_str),
        home_country: account.home_country,
        home: account.home,
        opened_on: account.opened_on,
        currency: account.currency,
        credit_limit_minor: account.credit_limit_minor,
        limit_is_assumed,
        available_minor: account.available_minor(now),
    }
}

/// Whether two requests with one key are the same request. Network trace, time, device, verification and deadline
/// legally differ in a repeat and are not compared.
pub fn same_body(a: &AuthRequest, b: &AuthRequest) -> bool {
    let body = |r: &AuthRequest| {
        (
            (r.kind, r.subject, r.amount, r.billing_amount, r.cashback_amount),
            (r.merchant.merchant_id, r.merchant.terminal_id, r.original),
            (r.instalments, r.partial_approval_allowed, r.single_message),
        )
    };
    body(a) == body(b)
}
