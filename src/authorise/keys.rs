//! Which keys a record of the journal settles, and as what. Recovery, key files and `journal verify` all ask here, so
//! that what stands under a key is the same wherever it is remembered.

use super::{
    State,
    answers::{NO_ACCOUNT, Remembered, What},
};
use crate::{
    journal::record::{Original, Record},
    types::{auth::Subject, ids::RequestKey},
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
        // A duplicate is counted and listed, not remembered under its key.
        Record::Introduced(_) | Record::Duplicated(_) | Record::Expiry(_) => {}
    }
}

/// What is remembered of a key that `record`, at `position`, settled as `what`.
pub fn remembered(state: &State, position: u64, record: &Record, what: What) -> Remembered {
    let account = match record {
        // The authorisation that is spoken for has no account yet.
        _ if what == What::ReversedBefore => None,
        Record::Decided(decided) => decided.account,
        Record::Voided(voided) => voided.account,
        Record::Reversed(reversed) => reversed.account,
        Record::Maintained(maintained) => Some(maintained.account),
        Record::Introduced(_) | Record::Duplicated(_) | Record::Expiry(_) => None,
    };
    let at = account.and_then(|account| state.store.find(&Subject::Account(account)));
    Remembered { what, position, account: at.unwrap_or(NO_ACCOUNT) }
}

/// Remembers the keys that a record of the journal settles, whatever stood under them. Its account must stand already.
pub fn restore(state: &State, position: u64, record: &Record) {
    keys_of(record, |client, key, what| {
        let hash = state.answers.hash(client, key);
        state.answers.remember(hash, remembered(state, position, record, what));
    });
}

/// Forgets what memory has of the keys that a record settles: a key file has them as the record says, and what a snapshot
/// brought back may be older than that.
pub fn leave_to_file(state: &State, record: &Record) {
    keys_of(record, |client, key, _| state.answers.leave_to_file(state.answers.hash(client, key)));
}
