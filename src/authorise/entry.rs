//! Where accounts live, and the only way to touch one: [`Store::with_account`], whose closure runs under that
//! account's lock and can neither await nor take another.
//!
//! Two maps lead from an account id and from a card token to a place in an append-only slab of entries. The maps
//! hold sixteen bytes a key, its hash for its text, so that a map that grows moves little and never an account, and
//! the lock is the account's own rather than a shard's.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry as MapEntry};
use parking_lot::Mutex;
use siphasher::sip128::SipHasher13;

use crate::{
    features::History,
    ledger::Account,
    types::{
        auth::Subject,
        ids::{AccountId, CardToken},
    },
};

/// What one account holds: all that a decision on it needs.
#[derive(Clone, Default)]
pub struct Entry {
    /// `None` until the record that opens the account is published.
    pub account: Option<Account>,
    /// Windows of the account and of its cards.
    pub history: History,
}

/// 96 bits of SipHash-1-3 for an id: two of ten million ids share them with a probability of 10⁻¹⁵. The keys are
/// fixed, for ids are given by the issuer's own systems and not by whoever pays. Whoever finds an account so compares
/// its id, or its card's token, under its lock; recovery need not, because what it reads was compared when it was
/// written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdHash([u32; 3]);

impl IdHash {
    pub fn of(id: &str) -> IdHash {
        let bits = SipHasher13::new_with_keys(0, 0).hash(id.as_bytes()).as_u128();
        IdHash([bits as u32, (bits >> 32) as u32, (bits >> 64) as u32])
    }
}

type Index = DashMap<IdHash, u32, foldhash::fast::RandomState>;

/// All accounts.
pub struct Store {
    entries: boxcar::Vec<Mutex<Entry>>,
    /// One more than the highest place handed out. The slab's own count may lag behind that while two threads add to it.
    places: AtomicUsize,
    by_account: Index,
    by_card: Index,
}

impl Store {
    /// An empty store. `shards` is the number of locks of each map, a power of two.
    pub fn new(shards: usize) -> Store {
        Store::with_places(shards, 0)
    }

    /// A store with `places` taken, none of them opened, and room in its maps for as many keys: to be filled by
    /// [`Store::put`].
    pub fn with_places(shards: usize, places: usize) -> Store {
        let entries = boxcar::Vec::with_capacity(places);
        for _ in 0..places {
            entries.push(Mutex::default());
        }
        let (by_account, by_card) = (index(shards, places), index(shards, places));
        Store { entries, places: AtomicUsize::new(places), by_account, by_card }
    }

    /// Puts an entry at a place that was taken and not opened, with its id and its cards. False where one of them
    /// belongs to another place: then nothing can be trusted in what is put.
    pub fn put(&self, at: u32, entry: Entry) -> bool {
        if let Some(account) = &entry.account {
            let cards = account.cards.iter().all(|card| self.claim_card(card.token.get(), at).is_ok());
            if !cards || self.by_account.insert(IdHash::of(account.id.as_str()), at).is_some() {
                return false;
            }
        }
        self.with_account(at, |place| *place = entry);
        true
    }

    /// Number of places taken, accounts never opened included: every account that can be found has a lower place.
    pub fn len(&self) -> usize {
        self.places.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of cards known.
    pub fn cards(&self) -> usize {
        self.by_card.len()
    }

    /// The place of the account a request names.
    pub fn find(&self, subject: &Subject) -> Option<u32> {
        match subject {
            Subject::Account(account) => self.by_account.get(&IdHash::of(account.as_str())).map(|at| *at),
            Subject::Card(card) => self.by_card.get(&IdHash::of(card.as_str())).map(|at| *at),
        }
    }

    /// The place of the account whose id has this hash.
    pub fn find_hashed(&self, account: IdHash) -> Option<u32> {
        self.by_account.get(&account).map(|at| *at)
    }

    /// The place of an account, taken for it now where it has none.
    pub fn place(&self, account: AccountId) -> u32 {
        match self.by_account.entry(IdHash::of(account.as_str())) {
            MapEntry::Occupied(entry) => *entry.get(),
            MapEntry::Vacant(entry) => {
                let at = self.entries.push(Mutex::default());
                self.places.fetch_max(at + 1, Ordering::AcqRel);
                *entry.insert(at as u32)
            }
        }
    }

    /// Claims a card token for the account at `at`. A token belongs to one account for ever.
    ///
    /// # Errors
    /// The place of the account that has it.
    pub fn claim_card(&self, card: CardToken, at: u32) -> Result<(), u32> {
        match self.by_card.entry(IdHash::of(card.as_str())) {
            MapEntry::Occupied(entry) if *entry.get() == at => Ok(()),
            MapEntry::Occupied(entry) => Err(*entry.get()),
            MapEntry::Vacant(entry) => {
                entry.insert(at);
                Ok(())
            }
        }
    }

    /// Lets an id lead to a place that is another account's, as one of the same hash would.
    #[cfg(test)]
    pub fn lead_astray(&self, account: AccountId, at: u32) {
        self.by_account.insert(IdHash::of(account.as_str()), at);
    }

    /// Runs `f` under the lock of the account at `at`. `f` must not block, await or lock.
    #[inline]
    pub fn with_account<R>(&self, at: u32, f: impl FnOnce(&mut Entry) -> R) -> R {
        f(&mut self.entries[at as usize].lock())
    }

    /// As [`Store::with_account`], for those who go through all places below [`Store::len`]: `None` where one was handed
    /// out just now and is not there yet.
    pub fn visit<R>(&self, at: u32, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.entries.get(at as usize).map(|entry| f(&mut entry.lock()))
    }
}

fn index(shards: usize, keys: usize) -> Index {
    DashMap::with_capacity_and_hasher_and_shard_amount(keys, Default::default(), shards)
}
