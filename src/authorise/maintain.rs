//! Changes to accounts and cards ordered by their owner's systems, under the same lock and in the same journal as
//! the decisions they change.

use super::{
    Asked, Sink, State,
    answers::{Claim, Remembered, What},
    entry::Entry,
};
use crate::{
    journal::record::Maintained,
    ledger::Account,
    limits::CARDS_PER_ACCOUNT_MAX,
    types::{
        account::AccountChange,
        auth::Subject,
        codes::ResponseCode,
        fault::{Fault, Violation},
        ids::AccountId,
        outcome::{Maintenance, Outcome, Upserted},
        reasons::Reasons,
        time::Timestamp,
    },
};

/// Makes a change and publishes its record. `own` is the claim on its key, which stays free where the change is
/// refused.
///
/// # Errors
/// [`Fault::NotFound`] for an unknown account or card, [`Fault::Invalid`] for an upsert that contradicts what
/// stands or lacks what an opening needs. Nothing changed then.
pub fn maintain(
    state: &State,
    change: Maintenance,
    asked: Asked,
    own: Claim<'_>,
    sink: impl Sink,
) -> Result<Outcome, Fault> {
    let at = match &change {
        Maintenance::SetAccountStatus { account, .. } | Maintenance::SetCreditLimit { account, .. } => {
            let at = state.store.find(&Subject::Account(*account));
            at.ok_or(Fault::NotFound { what: "account" })?
        }
        Maintenance::SetCardStatus { card, .. } => {
            let at = state.store.find(&Subject::Card(*card));
            at.ok_or(Fault::NotFound { what: "card" })?
        }
        Maintenance::Upsert { change: wanted, .. } => claim_places(state, &change, wanted)?,
    };
    let outcome = state.store.with_account(at, |entry| {
        check(&change, entry)?;
        let mut sink = sink;
        let position = sink.take_sequence();
        let upserted = apply(&change, entry, asked.now, position);
        let account = entry.account.as_ref().expect("a checked change leaves an open account");
        let outcome = Outcome {
            response_code: ResponseCode::APPROVED,
            moved: Some(account.money(0)),
            available: Some(account.money(account.available_minor(asked.now))),
            reasons: Reasons::new(),
            position,
            upserted,
        };
        let record =
            Maintained { client: asked.client, time: asked.now, change, account: account.id.get(), outcome };
        record.encode(sink.buffer());
        sink.publish();
        Ok(record.outcome)
    })?;
    own.settle(Remembered { what: What::Other, position: outcome.position, account: at });
    Ok(outcome)
}

/// Takes a place for the account and its cards, before its lock is taken: an account's lock is never held together
/// with a map's. What can be refused is refused before anything is claimed. A token stays claimed where another
/// upsert of the same account came between and made this one fail: it was named for this account.
fn claim_places(state: &State, change: &Maintenance, wanted: &AccountChange) -> Result<u32, Fault> {
    let known = state.store.find(&Subject::Account(wanted.account));
    match known {
        None => needed_for_opening(wanted)?,
        Some(at) => state.store.with_account(at, |entry| check(change, entry))?,
    }
    let taken = |token| state.store.find(&Subject::Card(token)).is_some_and(|owner| Some(owner) != known);
    if wanted.cards.iter().any(|card| taken(card.token)) {
        return Err(card_of_another());
    }
    let at = known.unwrap_or_else(|| state.store.place(wanted.account));
    for card in &wanted.cards {
        state.store.claim_card(card.token, at).map_err(|_| card_of_another())?;
    }
    Ok(at)
}

fn card_of_another() -> Fault {
    invalid("account.cards", "a card token belongs to another account", 9)
}

fn invalid(field: &'static str, description: &str, number: u32) -> Fault {
    let response_code = match field {
        "account.currency_code" | "account.credit_limit_minor" => ResponseCode::INVALID_AMOUNT,
        "account.cards" => ResponseCode::INVALID_CARD,
        _ => ResponseCode::FORMAT_ERROR,
    };
    Fault::Invalid(vec![Violation { field, description: description.into(), response_code, number }])
}

fn needed_for_opening(change: &AccountChange) -> Result<(), Fault> {
    if change.currency.is_none() {
        return Err(invalid("account.currency_code", "is needed to open an account", 2));
    }
    if change.credit_limit_minor.is_none() {
        return Err(invalid("account.credit_limit_minor", "is needed to open an account", 3));
    }
    Ok(())
}

/// Whether a change can be applied to what stands, so that applying it cannot fail.
fn check(change: &Maintenance, entry: &Entry) -> Result<(), Fault> {
    let is_named = |id: &AccountId| entry.account.as_ref().is_none_or(|a| a.id.as_str() == id.as_str());
    match change {
        Maintenance::Upsert { change, .. } if !is_named(&change.account) => {
            return Err(invalid("account.account_id", "another account's id has the same hash", 1));
        }
        Maintenance::SetAccountStatus { account, .. } | Maintenance::SetCreditLimit { account, .. }
            if !is_named(account) =>
        {
            return Err(Fault::NotFound { what: "account" });
        }
        _ => {}
    }
    match (change, &entry.account) {
        (Maintenance::Upsert { change, .. }, None) => needed_for_opening(change)?,
        (Maintenance::Upsert { change, .. }, Some(account)) => {
            if change.currency.is_some_and(|currency| currency != account.currency) {
                return Err(invalid(
                    "account.currency_code",
                    "an account keeps the currency it was opened in",
                    2,
                ));
            }
        }
        (Maintenance::SetCardStatus { card, .. }, Some(account)) => {
            account.card(card).ok_or(Fault::NotFound { what: "card" })?;
        }
        (_, Some(_)) => {}
        (_, None) => return Err(Fault::NotFound { what: "account" }),
    }
    if let Maintenance::Upsert { change, .. } = change {
        let cards = entry.account.as_ref().map_or(&[][..], |account| &account.cards);
        let new = change
            .cards
            .iter()
            .filter(|new| !cards.iter().any(|card| card.token.as_str() == new.token.as_str()))
            .count();
        if cards.len() + new > CARDS_PER_ACCOUNT_MAX {
            return Err(invalid("account.cards", "an account has at most 32 cards", 9));
        }
    }
    Ok(())
}

/// Applies a change that was checked.
pub(super) fn apply(
    change: &Maintenance,
    entry: &mut Entry,
    now: Timestamp,
    position: u64,
) -> Option<Upserted> {
    let upserted = match change {
        Maintenance::Upsert { change, .. } => match &mut entry.account {
            Some(account) => match account.change(change) {
                true => Some(Upserted::Changed),
                false => Some(Upserted::Unchanged),
            },
            vacant => {
                let (currency, limit) = change.currency.zip(change.credit_limit_minor)?;
                let account = vacant.insert(Account::new(change.account, currency, limit));
                account.posted_minor = change.posted_minor.unwrap_or(0);
                account.change(change);
                Some(Upserted::Opened)
            }
        },
        Maintenance::SetAccountStatus { status, .. } => {
            entry.account.as_mut()?.status = *status;
            None
        }
        Maintenance::SetCreditLimit { limit_minor, .. } => {
            entry.account.as_mut()?.credit_limit_minor = *limit_minor;
            None
        }
        Maintenance::SetCardStatus { card, status, .. } => {
            let card = entry
                .account
                .as_mut()?
                .cards
                .iter_mut()
                .find(|known| known.token.as_str() == card.as_str())?;
            card.status = *status;
            None
        }
    };
    if let Some(account) = &mut entry.account {
        account.expire(now);
        account.last_position = position;
    }
    upserted
}
