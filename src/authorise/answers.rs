//! Stage 1: has this key been seen before? An index from the keyed hash of client and key to the journal position
//! of its record; the answer itself is read back from the journal.
//!
//! A key is claimed under a short lock that is released before any account is locked; a claim that is dropped
//! without being settled (an error, a panic) leaves the index as it was. Nothing is forgotten before its time: at
//! capacity new keys are refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::types::{
    bytes::{Fields, Misread},
    ids::RequestKey,
};

const SHARDS: usize = 256;
/// The account of an answer given without one.
pub const NO_ACCOUNT: u32 = u32::MAX;

/// 128 bits of SipHash-1-3 over client and key, under a secret of this journal: two keys never collide by design of
/// their sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHash([u32; 4]);

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) << 32 | u64::from(self.0[1]));
    }
}

impl KeyHash {
    fn shard(self) -> usize {
        self.0[2] as usize % SHARDS
    }
}

/// Passes the bits of a [`KeyHash`] through: they are random already.
#[derive(Default)]
struct Bits(u64);

impl Hasher for Bits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only key hashes are hashed here");
    }
}

/// What stands under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum What {
    /// An authorisation's own record.
    Authorisation = 1,
    /// The record of any other call.
    Other = 2,
    /// The record of a reversal that came before this authorisation.
    ReversedBefore = 3,
    /// The record that voided the authorisation.
    Voided = 4,
    /// An authorisation's own record, whose answer somebody got from it or reversed: it can no longer be voided.
    /// Known in memory only; after a restart nobody waits for an answer.
    Answered = 5,
}

/// What is remembered of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered {
    pub what: What,
    /// Of the record that answers a repeat.
    pub position: u64,
    /// The account's place in the store, or [`NO_ACCOUNT`].
    pub account: u32,
}

impl Remembered {
    /// Whether the record is that of the authorisation itself.
    pub fn is_authorisation(&self) -> bool {
        matches!(self.what, What::Authorisation | What::Answered)
    }
}

/// A [`Remembered`], or a key in flight, in twelve bytes: position 48 bits, kind 16, account 32.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed([u32; 3]);

impl Packed {
    const IN_FLIGHT: Packed = Packed([0; 3]);

    fn new(remembered: Remembered) -> Packed {
        let Remembered { what, position, account } = remembered;
        Packed([position as u32, (position >> 32) as u32 & 0xffff | (what as u32) << 16, account])
    }

    fn get(self) -> Option<Remembered> {
        let what = match self.0[1] >> 16 {
            1 => What::Authorisation,
            2 => What::Other,
            3 => What::ReversedBefore,
            4 => What::Voided,
            5 => What::Answered,
            _ => return None,
        };
        let position = u64::from(self.0[1] & 0xffff) << 32 | u64::from(self.0[0]);
        Some(Remembered { what, position, account: self.0[2] })
    }
}

type Shard = HashMap<KeyHash, Packed, BuildHasherDefault<Bits>>;

/// The index of answers.
pub struct Answers {
    shards: Box<[Mutex<Shard>]>,
    secret: (u64, u64),
    capacity: usize,
    count: AtomicUsize,
}

/// What claiming a key came to.
pub enum Claimed<'a> {
    /// Never seen: the caller decides and settles.
    Fresh(Claim<'a>),
    /// Its reversal came first: the caller declines and settles.
    ReversedBefore(Claim<'a>, Remembered),
    /// Seen before.
    Known(Remembered),
    /// Another thread is deciding it at this moment.
    Busy,
    /// No room for one more key.
    Full,
}

impl Answers {
    /// An index for at most `capacity` keys. The secret should be random.
    pub fn new(capacity: usize, secret: (u64, u64)) -> Answers {
        Answers {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            secret,
            capacity,
            count: AtomicUsize::new(0),
        }
    }

    pub fn hash(&self, client: u32, key: &RequestKey) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(&client.to_le_bytes());
        hasher.write(key.as_str().as_bytes());
        let bits = hasher.finish128().as_u128();
        KeyHash([bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32])
    }

    /// Number of keys remembered or in flight.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Claims a key for whoever decides it.
    pub fn claim(&self, key: KeyHash) -> Claimed<'_> {
        let mut shard = self.shards[key.shard()].lock();
        match shard.entry(key) {
            Entry::Occupied(mut entry) => match entry.get().get() {
                None => Claimed::Busy,
                Some(found) if found.what == What::ReversedBefore => {
                    entry.insert(Packed::IN_FLIGHT);
                    Claimed::ReversedBefore(Claim { answers: self, key, before: Some(found) }, found)
                }
                Some(found) => Claimed::Known(found),
            },
            Entry::Vacant(entry) => {
                if self.count.fetch_add(1, Ordering::Relaxed) >= self.capacity {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Claimed::Full;
                }
                entry.insert(Packed::IN_FLIGHT);
                Claimed::Fresh(Claim { answers: self, key, before: None })
            }
        }
    }

    /// Claims a key again that stands as `found`, to put something else in its place; `None` where it no longer
    /// stands so.
    pub fn reclaim(&self, key: KeyHash, found: Remembered) -> Option<Claim<'_>> {
        let mut shard = self.shards[key.shard()].lock();
        let entry = shard.get_mut(&key).filter(|entry| entry.get() == Some(found))?;
        *entry = Packed::IN_FLIGHT;
        Some(Claim { answers: self, key, before: Some(found) })
    }

    /// Says that an authorisation's answer is about to be handed over, so that it can no longer be voided. False where
    /// it no longer stands as `found`: then what stands now must be looked at.
    pub fn hand_over(&self, key: KeyHash, found: Remembered) -> bool {
        let mut shard = self.shards[key.shard()].lock();
        let Some(entry) = shard.get_mut(&key) else { return false };
        let answered = Packed::new(Remembered { what: What::Answered, ..found });
        if *entry == Packed::new(found) {
            *entry = answered;
        }
        *entry == answered
    }

    /// What stands under a key: nothing, something in flight (`Some(None)`), or a record.
    pub fn lookup(&self, key: KeyHash) -> Option<Option<Remembered>> {
        self.shards[key.shard()].lock().get(&key).map(|packed| packed.get())
    }

    /// Remembers a key during recovery, whatever stood under it.
    pub fn remember(&self, key: KeyHash, remembered: Remembered) {
        if self.shards[key.shard()].lock().insert(key, Packed::new(remembered)).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets the keys whose record stands before `position`: those past their retention.
    pub fn forget_before(&self, position: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, packed| packed.get().is_none_or(|found| found.position >= position));
            self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }
}

impl Answers {
    /// Locks that the index is divided into, each with a part of the keys.
    pub const PARTS: usize = SHARDS;
    /// Bytes of one stored answer: hash of the key 16 | position, kind and account as [`Packed`], 12; little-endian.
    const STORED_BYTES: usize = 28;

    /// Makes room for `keys` in all.
    pub fn reserve(&self, keys: usize) {
        self.shards.iter().for_each(|shard| shard.lock().reserve(keys.div_ceil(SHARDS)));
    }

    /// Appends the answers of one part to `out`, and to `in_flight` the keys that somebody is deciding at this moment:
    /// they must be looked at again, for the record of one that is settled late may be an old one.
    pub fn encode_part(&self, part: usize, out: &mut Vec<u8>, in_flight: &mut Vec<KeyHash>) {
        let shard = self.shards[part].lock();
        out.reserve(shard.len() * Self::STORED_BYTES);
        for (key, packed) in shard.iter() {
            match packed.get() {
                Some(_) => put_stored(*key, *packed, out),
                None => in_flight.push(*key),
            }
        }
    }

    /// Appends the answer under one key, if there is one. False while it is in flight.
    pub fn encode_key(&self, key: KeyHash, out: &mut Vec<u8>) -> bool {
        match self.shards[key.shard()].lock().get(&key) {
            None => true,
            Some(packed) if packed.get().is_none() => false,
            Some(packed) => {
                put_stored(key, *packed, out);
                true
            }
        }
    }

    /// Remembers what was appended; all of `bytes` must be it.
    ///
    /// # Errors
    /// Where the bytes are no such answers.
    pub fn decode(&self, bytes: &[u8]) -> Result<(), Misread> {
        let mut fields = Fields::new(bytes);
        let mut fresh = 0;
        // The answers of one part stand together, so that its lock is taken once for many.
        let mut locked = None;
        while fields.end().is_err() {
            let mut words = [0; 7];
            for word in &mut words {
                *word = fields.u32()?;
            }
            let [a, b, c, d, low, high, account] = words;
            let (key, packed) = (KeyHash([a, b, c, d]), Packed([low, high, account]));
            let Some(found) = packed.get() else { return Err(fields.misread("not an answer")) };
            // Who was given an answer is known in memory only.
            let found = match found.what {
                What::Answered => Remembered { what: What::Authorisation, ..found },
                _ => found,
            };
            let (_, shard) = match locked.take() {
                Some((part, shard)) if part == key.shard() => locked.insert((part, shard)),
                other => {
                    drop(other);
                    locked.insert((key.shard(), self.shards[key.shard()].lock()))
                }
            };
            fresh += usize::from(shard.insert(key, Packed::new(found)).is_none());
        }
        self.count.fetch_add(fresh, Ordering::Relaxed);
        Ok(())
    }
}

fn put_stored(key: KeyHash, packed: Packed, out: &mut Vec<u8>) {
    key.0.iter().chain(&packed.0).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// The right to say what a key stands for. Dropped unsettled, the key stands as it did before.
pub struct Claim<'a> {
    answers: &'a Answers,
    key: KeyHash,
    before: Option<Remembered>,
}

impl Claim<'_> {
    pub fn settle(self, remembered: Remembered) {
        // The key stands there since it was claimed; inserting it would make room for another first.
        if let Some(entry) = self.answers.shards[self.key.shard()].lock().get_mut(&self.key) {
            *entry = Packed::new(remembered);
        }
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut shard = self.answers.shards[self.key.shard()].lock();
        match self.before {
            Some(before) => {
                shard.insert(self.key, Packed::new(before));
            }
            None => {
                shard.remove(&self.key);
                self.answers.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(answers: &Answers, text: &str) -> KeyHash {
        answers.hash(0, &RequestKey::new(text).unwrap())
    }

    fn at(position: u64) -> Remembered {
        Remembered { what: What::Authorisation, position, account: 7 }
    }

    #[test]
    fn a_claim_that_is_dropped_leaves_the_key_as_it_was() {
        let answers = Answers::new(10, (1, 2));
        let k = key(&answers, "a");
        assert!(matches!(answers.claim(k), Claimed::Fresh(_)));
        assert_eq!(answers.lookup(k), None);
        assert!(answers.is_empty());

        let reversed = Remembered { what: What::ReversedBefore, ..at(3) };
        answers.remember(k, reversed);
        assert!(matches!(answers.claim(k), Claimed::ReversedBefore(_, found) if found == reversed));
        assert_eq!(answers.lookup(k), Some(Some(reversed)));
    }

    #[test]
    fn a_key_in_flight_is_busy_and_a_settled_one_known() {
        let answers = Answers::new(10, (1, 2));
        let k = key(&answers, "a");
        let Claimed::Fresh(claim) = answers.claim(k) else { panic!("the key is new") };
        assert!(matches!(answers.claim(k), Claimed::Busy));
        assert_eq!(answers.lookup(k), Some(None));
        claim.settle(at(u64::from(u32::MAX) + 5));
        assert!(matches!(answers.claim(k), Claimed::Known(found) if found == at(u64::from(u32::MAX) + 5)));
        assert!(answers.reclaim(k, at(1)).is_none());
        answers.reclaim(k, at(u64::from(u32::MAX) + 5)).unwrap().settle(at(9));
        assert!(matches!(answers.claim(k), Claimed::Known(found) if found == at(9)));
    }

    #[test]
    fn at_capacity_new_keys_are_refused_and_old_ones_still_known() {
        let answers = Answers::new(2, (1, 2));
        for (position, text) in ["a", "b"].into_iter().enumerate() {
            let Claimed::Fresh(claim) = answers.claim(key(&answers, text)) else { panic!("the key is new") };
            claim.settle(at(position as u64 + 1));
        }
        assert!(matches!(answers.claim(key(&answers, "c")), Claimed::Full));
        assert!(matches!(answers.claim(key(&answers, "a")), Claimed::Known(_)));
        answers.forget_before(2);
        assert!(matches!(answers.claim(key(&answers, "c")), Claimed::Fresh(_)));
        assert_eq!(answers.lookup(key(&answers, "a")), None);
    }

    #[test]
    fn stored_answers_come_back_and_keys_in_flight_are_named() {
        let answers = Answers::new(10_000, (1, 2));
        for n in 0..2_000 {
            answers.remember(key(&answers, &n.to_string()), at(n + 1));
        }
        let handed = key(&answers, "7");
        assert!(answers.hand_over(handed, at(8)));
        let busy = key(&answers, "busy");
        let Claimed::Fresh(claim) = answers.claim(busy) else { panic!("the key is new") };
        let (mut bytes, mut in_flight) = (Vec::new(), Vec::new());
        (0..Answers::PARTS).for_each(|part| answers.encode_part(part, &mut bytes, &mut in_flight));
        assert_eq!(in_flight, [busy]);
        assert!(!answers.encode_key(busy, &mut bytes));
        claim.settle(at(77));
        assert!(answers.encode_key(busy, &mut bytes));
        assert!(answers.encode_key(key(&answers, "never"), &mut bytes));

        let again = Answers::new(10_000, (1, 2));
        again.reserve(2_001);
        again.decode(&bytes).unwrap();
        assert_eq!(again.len(), 2_001);
        for n in 0..2_000 {
            assert_eq!(again.lookup(key(&again, &n.to_string())), Some(Some(at(n + 1))));
        }
        assert_eq!(again.lookup(busy), Some(Some(at(77))));
        for end in 1..Answers::STORED_BYTES {
            assert!(Answers::new(10, (1, 2)).decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_same_key_of_two_clients_is_two_keys() {
        let answers = Answers::new(2, (1, 2));
        let k = RequestKey::new("a").unwrap();
        assert_ne!(answers.hash(0, &k), answers.hash(1, &k));
    }
}
