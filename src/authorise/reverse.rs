//! What frees a hold other than time: reversals, and the voiding of an authorisation nobody waits for any more.

use super::{
    Asked, Sink, State,
    answers::{Claim, NO_ACCOUNT, Remembered, What},
};
use crate::{
    journal::record::{Original, Reversed, Voided},
    types::{
        codes::ResponseCode,
        fault::{Fault, Violation},
        ids::RequestKey,
        outcome::{Outcome, Reversal},
        reasons::{Reasons, engine},
    },
};

/// What a reversal found under its original's key. The engine waits until nobody is deciding that key.
pub enum Target<'a> {
    /// Nothing: the claim keeps it so until the reversal stands there.
    NotArrived(Claim<'a>),
    Found(Remembered),
}

/// Reverses and publishes the record. `own` is the claim on the reversal's own key.
///
/// # Errors
/// [`Fault::Invalid`] where the replacement amount is not in the account's currency: nothing changed.
pub fn reverse(
    state: &State,
    reversal: Reversal,
    asked: Asked,
    own: Claim<'_>,
    target: Target<'_>,
    mut sink: impl Sink,
) -> Result<Outcome, Fault> {
    let mut reversed = Reversed {
        client: asked.client,
        time: asked.now,
        reversal,
        original: Original::NotArrived,
        account: None,
        outcome: Outcome {
            response_code: ResponseCode::APPROVED,
            moved: None,
            available: None,
            reasons: Reasons::new(),
            position: 0,
            upserted: None,
        },
    };
    let (account, tombstone) = match target {
        Target::NotArrived(claim) => (NO_ACCOUNT, Some(claim)),
        Target::Found(found) => {
            reversed.original = match found.what {
                What::ReversedBefore => Original::ReversedBefore(found.position),
                _ => Original::At(found.position),
            };
            if found.what == What::Other {
                reversed.outcome.response_code = ResponseCode::INVALID_TRANSACTION;
                reversed.outcome.reasons.push(engine::NOT_AN_AUTHORISATION);
            }
            (found.account, None)
        }
    };
    if account == NO_ACCOUNT {
        reversed.outcome.position = sink.take_sequence();
        reversed.encode(sink.buffer());
        sink.publish();
    } else {
        state.store.with_account(account, |entry| {
            // Answers name an account only where it was open, and an account is never closed for good.
            let Some(account) = entry.account.as_mut() else { return Err(Fault::Internal) };
            let keep = reversed.reversal.replacement;
            if keep.is_some_and(|keep| keep.currency != account.currency) {
                return Err(Fault::Invalid(vec![Violation {
                    field: "replacement_amount.currency_code",
                    description: "must be the account's currency".into(),
                    response_code: ResponseCode::INVALID_AMOUNT,
                    number: 3,
                }]));
            }
            let position = sink.take_sequence();
            account.expire(asked.now);
            account.last_position = position;
            let freed = match reversed.original {
                Original::At(at) => account.release(at, keep.map_or(0, |keep| keep.minor)),
                _ => 0,
            };
            reversed.account = Some(account.id.get());
            reversed.outcome.position = position;
            reversed.outcome.moved = Some(account.money(freed));
            reversed.outcome.available = Some(account.money(account.available_minor(asked.now)));
            reversed.encode(sink.buffer());
            sink.publish();
            Ok(())
        })?;
    }
    let position = reversed.outcome.position;
    if let Some(claim) = tombstone {
        claim.settle(Remembered { what: What::ReversedBefore, position, account: NO_ACCOUNT });
    }
    own.settle(Remembered { what: What::Other, position, account });
    Ok(reversed.outcome)
}

/// Voids an authorisation: what it holds is free, and every retry of its key learns that it is void. `claim` is on
/// the authorisation's key, which stood as `found`. Returns the position of the record.
pub fn void(
    state: &State,
    key: RequestKey,
    found: Remembered,
    asked: Asked,
    claim: Claim<'_>,
    mut sink: impl Sink,
) -> u64 {
    let mut voided = Voided {
        client: asked.client,
        time: asked.now,
        key,
        of: found.position,
        account: None,
        freed_minor: 0,
    };
    let position = if found.account == NO_ACCOUNT {
        let position = sink.take_sequence();
        voided.encode(sink.buffer());
        sink.publish();
        position
    } else {
        state.store.with_account(found.account, |entry| {
            let position = sink.take_sequence();
            if let Some(account) = entry.account.as_mut() {
                account.expire(asked.now);
                account.last_position = position;
                voided.account = Some(account.id.get());
                voided.freed_minor = account.release(found.position, 0);
            }
            voided.encode(sink.buffer());
            sink.publish();
            position
        })
    };
    claim.settle(Remembered { what: What::Voided, position, account: found.account });
    position
}
