//! Which keys a record of the journal settles, and as what. Recovery, key files and `journal verify` all ask here, so
//! that what stands under a key is the same wherever it is remembered.

use arrayvec::ArrayVec;

use super::answers::{Answers, KeyHash, NO_ACCOUNT, Remembered, What};
use crate::{
    journal::record::{Original, Record},
    types::ids::{AccountId, RequestKey},
};

/// Calls `each` with every key that `record` settles: the client, the key, and what stands there from then on.
pub fn keys_of(record: &Record, mut each: impl FnMut(u32, &RequestKey, What)) {
    match record {
        Record::Decided(decided) => each(decided.client, &decided.request.key, What::Authorisation),
        Record::Voided(voided) => each(voided.client, &voided.key, What::Voided),
        Record::Reversed(reversed) => {
            if reversed.original == Original::NotArrived {
                each(reversed.client, &reversed.reversal.original, What::ReversedBefore);
            }
            each(reversed.client, &reversed.reversal.key, What::Other);
        }
        Record::Maintained(maintained) => each(maintained.client, &maintained.change.key(), What::Other),
        Record::Listed(listed) => each(listed.client, &listed.update.key, What::Other),
        Record::Labelled(labelled) => each(labelled.client, &labelled.labelling.key, What::Other),
        // A duplicate is counted and listed, not remembered under its key.
        Record::Introduced(_) | Record::Duplicated(_) | Record::Expiry(_) => {}
    }
}

/// What is remembered of a key that the record at `position` settled as `what`. `at` is the place of its account, or
/// [`NO_ACCOUNT`].
pub fn remembered(position: u64, what: What, at: u32) -> Remembered {
    // The authorisation that is spoken for has no account yet.
    let account = if what == What::ReversedBefore { NO_ACCOUNT } else { at };
    Remembered { what, position, account }
}

/// The keys that a record settles, each with what stands there from then on: a reversal settles two.
pub type Settled = ArrayVec<(KeyHash, What), 2>;

/// The hashes of the keys that `record` settles.
pub fn settled(answers: &Answers, record: &Record) -> Settled {
    let mut settled = Settled::new();
    keys_of(record, |client, key, what| settled.push((answers.hash(client, key), what)));
    settled
}

/// The account that a record names as its own.
pub fn account_of(record: &Record) -> Option<AccountId> {
    match record {
        Record::Decided(decided) => decided.account,
        Record::Voided(voided) => voided.account,
        Record::Reversed(reversed) => reversed.account,
        Record::Expiry(expiry) => Some(expiry.account),
        Record::Maintained(maintained) => Some(maintained.account),
        // A label changes lists, and nothing of the account.
        Record::Introduced(_) | Record::Duplicated(_) | Record::Listed(_) | Record::Labelled(_) => None,
    }
}
