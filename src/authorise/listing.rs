//! Changes to lists, ordered by a call or following from a label. Each makes a new state of the lists, which is in force
//! before its record is published, so that whatever is recorded behind it was decided under it or names the one before.
//!
//! One at a time: the caller holds whatever keeps another change, or other rules, from coming between.

use std::sync::Arc;

use super::{
    Asked, Sink,
    answers::{Claim, NO_ACCOUNT, Remembered, What},
    entry::Store,
    setup::Setup,
};
use crate::{
    journal::record::{Counted, Labelled, Listed, NO_CARD, Record},
    limits::LIST_CHANGES_MAX,
    rules::{
        Lists,
        lists::{DeclaredList, ListFull, Step},
        nearest,
    },
    types::{
        auth::{AuthRequest, Subject},
        codes::ResponseCode,
        fault::{Fault, Violation},
        ids::{AccountId, CardToken, Id, looks_like_card_number},
        lists::{
            FraudLabel, Labelling, ListEntry, ListKind, ListOutcome, ListUpdate, Listing, TransactionIds,
        },
        money::{Currency, Money},
        outcome::Outcome,
        reasons::{Reasons, engine},
        time::Timestamp,
    },
};

/// Changes one list and publishes the record. `put` puts the new lists in force. `own` is the claim on the call's key,
/// which stays free where the change is refused.
///
/// # Errors
/// [`Fault::NoSuchList`], or [`Fault::Invalid`] for a value that the list cannot hold: nothing changed.
pub fn update(
    setup: &Setup,
    update: ListUpdate,
    pans_allowed: bool,
    asked: Asked,
    own: Claim<'_>,
    mut sink: impl Sink,
    put: impl FnOnce(Lists),
) -> Result<ListOutcome, Fault> {
    let list = declared(setup, &update.list)?;
    check(list, &update, pans_allowed)?;
    let kept_out = update.remove.iter().map(|value| {
        let value = list.kind.admit(value);
        value.is_some_and(|value| list.file.has(&value, asked.now))
    });
    let kept_out: Vec<bool> = kept_out.collect();
    let (id, steps) = ((&*update.list, list.kind), steps(&update, list.kind, &kept_out));
    let lists = setup.lists.lists().with(id, asked.now, steps).map_err(|ListFull| {
        let description =
            format!("calls have changed {LIST_CHANGES_MAX} values of the list, and no more can be");
        invalid("add", 3, description)
    })?;
    let values = list.len(lists.of(&list.name, list.kind).map(|changes| &**changes), asked.now);
    let (client, time, kind, versions) = (asked.client, asked.now, list.kind, setup.numbers);
    let record = Listed { client, time, update, kind, versions, kept_out, values };

    let position = sink.take_sequence();
    put(lists.made_at(position));
    record.encode(sink.buffer());
    sink.publish();
    own.settle(Remembered { what: What::Other, position, account: NO_ACCOUNT });
    Ok(ListOutcome { values, position })
}

/// A list by its name.
///
/// # Errors
/// [`Fault::NoSuchList`] with the one that was probably meant.
pub fn declared<'s>(setup: &'s Setup, name: &str) -> Result<&'s DeclaredList, Fault> {
    let lists = &setup.rules.lists;
    setup.rules.list(name).ok_or_else(|| {
        let meant = nearest(name, lists.iter().map(|list| &*list.name));
        Fault::NoSuchList { meant: meant.map(str::to_owned) }
    })
}

fn invalid(field: &'static str, number: u32, description: String) -> Fault {
    let response_code = ResponseCode::FORMAT_ERROR;
    Fault::Invalid(vec![Violation { field, description, response_code, number }])
}

fn check(list: &DeclaredList, update: &ListUpdate, pans_allowed: bool) -> Result<(), Fault> {
    let mut violations = Vec::new();
    for (place, entry) in update.add.iter().enumerate() {
        let is_pan = !pans_allowed && list.has_cards() && looks_like_card_number(&entry.value);
        let (description, response_code) = match list.refusal(&entry.value) {
            Some(refusal) => (refusal, ResponseCode::FORMAT_ERROR),
            None if is_pan => {
                ("must be a token of the issuer, never a card number".to_owned(), ResponseCode::INVALID_CARD)
            }
            None => continue,
        };
        let description = format!("entry {}: {description}", place + 1);
        violations.push(Violation { field: "add.value", description, response_code, number: 3 });
    }
    if violations.is_empty() { Ok(()) } else { Err(Fault::Invalid(violations)) }
}

/// What an update does, in the words of the lists.
fn steps(update: &ListUpdate, kind: ListKind, kept_out: &[bool]) -> Vec<Step> {
    let removed = update.remove.iter().zip(kept_out).filter_map(|(value, kept_out)| {
        let value = kind.admit(value)?;
        Some(if *kept_out { Step::TakeOut(value) } else { Step::Forget(value) })
    });
    let added = update
        .add
        .iter()
        .filter_map(|entry| Some(Step::Add(ListEntry { value: kind.admit(&entry.value)?, ..entry.clone() })));
    removed.chain(added).collect()
}

/// A transaction that is labelled, as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The record of its authorisation.
    pub of: u64,
    pub account: Option<AccountId>,
    pub currency: Option<Currency>,
    pub ids: TransactionIds,
    /// The record of the label before; 0 where none is known.
    pub before: u64,
    /// See [`Labelled::counted`].
    pub counted: Option<Counted>,
}

/// What the label policies make of one label.
pub struct Followed {
    /// `None` where nothing changes.
    pub lists: Option<Lists>,
    pub listed: Vec<Listing>,
    /// A list had no room: its policy was passed over.
    pub is_full: bool,
}

/// What the policies of these rules put on lists for a label of a kind and from a source that comes at `now`.
pub fn follow(
    setup: &Setup,
    (label, kind, source): (FraudLabel, &str, &str),
    ids: &TransactionIds,
    now: Timestamp,
) -> Followed {
    let mut followed = Followed { lists: None, listed: Vec::new(), is_full: false };
    for policy in &setup.rules.label_policies {
        let Some(entry) = policy.entry((label, kind), ids, source, now) else { continue };
        let before = followed.lists.as_ref().unwrap_or(setup.lists.lists());
        // What somebody has put there for longer stays as it is.
        if before
            .stays_until(&policy.list, &entry.value)
            .is_some_and(|until| entry.expires_at.is_some_and(|end| end <= until))
        {
            continue;
        }
        match before.with((&policy.list, ListKind::Texts), now, [Step::Add(entry.clone())]) {
            Ok(after) => {
                followed.listed.push(Listing { list: policy.list.clone(), entry });
                followed.lists = Some(after);
            }
            Err(ListFull) => followed.is_full = true,
        }
    }
    followed
}

/// The ids of an authorisation that was decided on the card at a place of an account, as label policies list them: its
/// card also where the request named the account alone.
pub fn ids_of(
    store: &Store,
    request: &AuthRequest,
    (account, card_place): (Option<AccountId>, u8),
) -> TransactionIds {
    let of_account = || -> Option<Id> {
        let at = store.find(&Subject::Account(account?))?;
        store.with_account(at, |entry| {
            let card = entry.account.as_ref()?.cards.get(usize::from(card_place))?;
            Some(card.token.get().0)
        })
    };
    let card = match request.subject {
        Subject::Card(CardToken(card)) => Some(card),
        Subject::Account(_) if card_place == NO_CARD => None,
        Subject::Account(_) => of_account(),
    };
    TransactionIds {
        card,
        merchant: request.merchant.merchant_id,
        terminal: request.merchant.terminal_id,
        device: request.device_id,
        ip: request.ip_address,
    }
}

/// Records a label and what the label policies put on lists for it. As [`update`], but that nothing of it is refused: a
/// policy whose list is full is passed over, and the outcome says so.
pub fn label(
    setup: &Setup,
    labelling: Labelling,
    transaction: Transaction,
    asked: Asked,
    own: Claim<'_>,
    mut sink: impl Sink,
    put: impl FnOnce(Lists),
) -> Labelled {
    let what = (labelling.label, &*labelling.kind, &*labelling.source);
    let Followed { lists, listed, is_full } = follow(setup, what, &transaction.ids, asked.now);
    let mut reasons = Reasons::new();
    reasons.extend(is_full.then_some(engine::LIST_FULL));
    let Transaction { of, account, currency, ids, before, counted } = transaction;
    let mut record = Labelled {
        client: asked.client,
        time: asked.now,
        labelling,
        of,
        account,
        before,
        ids,
        versions: setup.numbers,
        listed,
        outcome: Outcome {
            response_code: ResponseCode::APPROVED,
            moved: currency.map(|currency| Money::new(0, currency)),
            available: None,
            reasons,
            position: 0,
            upserted: None,
        },
        counted,
    };

    let position = sink.take_sequence();
    record.outcome.position = position;
    if let Some(lists) = lists {
        put(lists.made_at(position));
    }
    record.encode(sink.buffer());
    sink.publish();
    own.settle(Remembered { what: What::Other, position, account: NO_ACCOUNT });
    record
}

/// The lists that the record at `position` made of `lists`, for recovery; `None` where it changed none.
pub fn restored(lists: &Lists, position: u64, record: &Record) -> Option<Lists> {
    let after = match record {
        _ if position <= lists.version() => return None,
        Record::Listed(listed) => {
            let steps = steps(&listed.update, listed.kind, &listed.kept_out);
            lists.with((&listed.update.list, listed.kind), listed.time, steps)
        }
        Record::Labelled(labelled) if !labelled.listed.is_empty() => {
            let add = |lists: Lists, listing: &Listing| {
                let step = Step::Add(listing.entry.clone());
                lists.with((&listing.list, ListKind::Texts), labelled.time, [step])
            };
            labelled.listed.iter().try_fold(lists.clone(), add)
        }
        _ => return None,
    };
    // It fitted when the record was written.
    after.ok().map(|lists| lists.made_at(position))
}

/// Entries of a list, for whoever reads it.
pub struct Page {
    pub entries: Vec<crate::rules::lists::StandingEntry>,
    /// Values on the list.
    pub values: u64,
}

/// The values of a list behind `after`, `limit` at most.
///
/// # Errors
/// [`Fault::NoSuchList`].
pub fn page(setup: &Setup, name: &str, after: &str, limit: usize, now: Timestamp) -> Result<Page, Fault> {
    let list = declared(setup, name)?;
    let lists = Arc::clone(setup.lists.lists());
    let changes = lists.of(&list.name, list.kind).map(|changes| &**changes);
    Ok(Page { entries: list.page(changes, now, after, limit), values: list.len(changes, now) })
}
