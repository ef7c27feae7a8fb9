//! Recovery: what a record of the journal did to its account is done again, without deciding again. It is done in three
//! steps, so that each can be done by another thread:
//!
//! 1. [`Effect::of`] reads off a record what it does, in numbers, and hashes the names in it;
//! 2. [`Effect::place`] and [`Effect::settle`], in the order of the journal: the account is found, an opening takes the
//!    places it took, and the keys are remembered;
//! 3. [`Effect::apply`], in the order of the journal for each account: moves its money and its windows.

use super::{
    State,
    answers::{Answers, NO_ACCOUNT},
    entry::{Entry, IdHash, Store},
    is_attempt, kept_posted_until,
    keys::{self, Settled},
    maintain, window_card,
};
use crate::{
    features::{self, Plan, event::Event},
    journal::record::{Decided, Maintained, Original, Record},
    ledger::{Account, Hold},
    limits::HOLD_LIFE_MAX_MS,
    types::{
        codes::{Decision, Kind, ReasonSource},
        money::Money,
        outcome::Maintenance,
        time::Timestamp,
    },
};

/// What a record does.
pub struct Effect {
    position: u64,
    /// The rules that decided, by number; 0 where nothing was decided.
    rules: u32,
    time: Timestamp,
    /// The account that it touched, which an opening opens.
    account: Option<IdHash>,
    keys: Settled,
    change: Change,
}

enum Change {
    /// Nothing but letting holds expire.
    Expire,
    Decide(Attempt),
    Release {
        /// The position of the authorisation whose hold is freed.
        of: u64,
        keep_minor: i64,
    },
    Maintain(Box<Maintained>),
    /// It touches no account.
    None,
}

/// An authorisation as far as its account is concerned.
struct Attempt {
    /// Whether its account's windows were read.
    considered: bool,
    /// `None` where no window remembers it. It lacks its amount until the account's currency is known.
    event: Option<Event>,
    billed: Option<Money>,
    held: Option<Held>,
}

struct Held {
    amount_minor: i64,
    expires_at: Timestamp,
    first: Option<u64>,
    posted: bool,
}

impl Effect {
    pub fn of(answers: &Answers, position: u64, record: Record) -> Effect {
        let keys = keys::settled(answers, &record);
        let account = keys::account_of(&record).map(|account| IdHash::of(account.as_str()));
        let rules = match &record {
            Record::Decided(decided) => decided.versions.rules,
            _ => 0,
        };
        let (time, change) = match record {
            Record::Decided(decided) => (decided.time, Change::Decide(Attempt::of(position, &decided))),
            Record::Voided(voided) => (voided.time, Change::Release { of: voided.of, keep_minor: 0 }),
            Record::Reversed(reversed) => (
                reversed.time,
                match reversed.original {
                    Original::At(of) => {
                        let keep = reversed.reversal.replacement;
                        Change::Release { of, keep_minor: keep.map_or(0, |keep| keep.minor) }
                    }
                    Original::NotArrived | Original::ReversedBefore(_) => Change::Expire,
                },
            ),
            Record::Expiry(expiry) => (expiry.time, Change::Expire),
            Record::Maintained(maintained) => (maintained.time, Change::Maintain(maintained)),
            Record::Introduced(introduced) => (introduced.time, Change::None),
            Record::Duplicated(duplicated) => (duplicated.time, Change::None),
            Record::Listed(listed) => (listed.time, Change::None),
            Record::Labelled(labelled) => (labelled.time, Change::None),
        };
        Effect { position, rules, time, account, keys, change }
    }

    /// The place of the account, or [`NO_ACCOUNT`]. An opening takes its places.
    pub fn place(&self, store: &Store) -> u32 {
        if let Change::Maintain(maintained) = &self.change
            && let Maintenance::Upsert { change, .. } = &maintained.change
        {
            let at = store.place(change.account);
            for card in &change.cards {
                // The record was written because the claim succeeded then; in journal order it succeeds again.
                let _ = store.claim_card(card.token, at);
            }
            return at;
        }
        self.account.and_then(|account| store.find_hashed(account)).unwrap_or(NO_ACCOUNT)
    }

    /// Remembers the keys that the record settled, whatever stood under them, or forgets what memory has of them where
    /// a key file has them as the record says: what a snapshot brought back may be older than that.
    pub fn settle(&self, answers: &Answers, at: u32, is_on_file: bool) {
        for (key, what) in &self.keys {
            match is_on_file {
                true => answers.leave_to_file(*key),
                false => answers.remember(*key, keys::remembered(self.position, *what, at)),
            }
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// The number of the rules that decided, whose windows the account has from then on; 0 where nothing was decided.
    pub fn rules(&self) -> u32 {
        self.rules
    }

    /// All that is done behind the first step, by one thread.
    pub fn restore(self, state: &State, plan: &Plan) {
        let at = self.place(&state.store);
        self.settle(&state.answers, at, false);
        if at != NO_ACCOUNT {
            state.store.with_account(at, |entry| self.apply(entry, plan));
        }
    }

    /// Does it to the account in `entry`, unless that has [seen](Account::has_seen) it.
    pub fn apply(self, entry: &mut Entry, plan: &Plan) {
        if entry.account.as_ref().is_some_and(|account| account.has_seen(self.position)) {
            return;
        }
        if let Change::Maintain(maintained) = &self.change {
            maintain::apply(&maintained.change, entry, self.time, self.position);
            return;
        }
        let Entry { account: Some(account), history } = entry else { return };
        account.expire(self.time);
        account.last_position = self.position;
        match self.change {
            Change::Expire | Change::Maintain(_) | Change::None => {}
            Change::Release { of, keep_minor } => {
                account.release(of, keep_minor);
            }
            Change::Decide(attempt) => {
                if attempt.considered {
                    history.fit(plan);
                }
                if let Some(event) = attempt.event {
                    let amount_minor = features::counted_minor(attempt.billed, account.currency);
                    history.record(plan, Event { amount_minor, currency: Some(account.currency), ..event });
                }
                if let Some(held) = attempt.held {
                    place(account, self.position, self.time, held);
                }
            }
        }
    }
}

impl Attempt {
    fn of(position: u64, decided: &Decided) -> Attempt {
        let Decided { request, answer, time, .. } = decided;
        let event = event_of(position, decided);
        let held = answer.approved.filter(|approved| approved.minor > 0).map(|approved| Held {
            amount_minor: approved.minor,
            expires_at: answer.hold_expires_at.unwrap_or(kept_posted_until(*time)),
            first: decided.first,
            posted: request.single_message,
        });
        let considered = request.kind != Kind::BalanceInquiry;
        Attempt { considered, event, billed: request.billed(), held }
    }
}

/// What windows remember of a decision, without its amount.
pub(super) fn event_of(position: u64, decided: &Decided) -> Option<Event> {
    let Decided { request, answer, time, .. } = decided;
    let decided_by = answer.reasons.first().map(|reason| reason.source);
    let for_credit = answer.decision == Decision::Declined
        && matches!(decided_by, Some(ReasonSource::Credit | ReasonSource::ProductLimit));
    is_attempt(request.kind, answer.response_code, decided_by).then(|| {
        let when_and_where = (*time, window_card(decided.card));
        features::event_of_nothing(request, when_and_where, position, answer.decision, for_credit)
    })
}

fn place(account: &mut Account, position: u64, time: Timestamp, held: Held) {
    let chain = held.first.and_then(|first| account.chain_until(first));
    account.place(Hold {
        position,
        first: held.first.unwrap_or(position),
        amount_minor: held.amount_minor,
        expires_at: held.expires_at,
        chain_until: chain.unwrap_or(time.plus_ms(HOLD_LIFE_MAX_MS)),
        posted: held.posted,
    });
}
